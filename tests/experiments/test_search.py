"""Searching images: what is found, what is kept, what is said of what cannot be read."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

from diffjax.data.images import decode
from diffjax.pretrained.clip import encoders_of_run, released_encoders
from diffjax.pretrained.search_index import Folder, index
from diffjax.reports.search import Query, best, thumbnail
from diffjax.runs import open_run
from experiments import search

if "folder" not in flags.FLAGS:
    search.define_flags()
if not flags.FLAGS.is_parsed():
    flags.FLAGS(["test"])


class Colour:
    """Images by their mean colour; counts what it encodes."""

    fingerprint = "colour"

    def __init__(self):
        self.seen = 0

    def prepare(self, pixels):
        return pixels.reshape(-1, 3).mean(axis=0)

    def images(self, prepared):
        self.seen += len(prepared)
        rows = np.stack(prepared).astype(np.float32) + 1e-3
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Red, green and blue pictures of several sizes and kinds, in folders, and a broken one."""
    folder = tmp_path / "pictures"
    for name, colour, size in [
        ("a/red.png", (250, 10, 10), (40, 30)),
        ("a/green.jpg", (10, 240, 10), (300, 500)),
        ("blue.webp", (10, 10, 240), (64, 64)),
        ("dark red.png", (90, 0, 0), (33, 35)),
    ]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, colour).save(folder / name)
    (folder / "broken.png").write_bytes((folder / "blue.webp").read_bytes()[:20])
    return folder


def run(**values) -> None:
    with flagsaver.flagsaver(**values):
        search.main()


def names(page: Path) -> list[list[str]]:
    """File names of each search, as the page lists them."""
    sections = re.findall(r'<section id="query-.*?</section>', page.read_text(), re.S)
    return [re.findall(r'class="hit" title="([^"]*)"', section) for section in sections]


def test_nearest_first_and_the_median_of_all(folder):
    images = Folder(folder)
    found = index(images, Colour(), folder.parent / "i.npz", say=lambda _: None)
    (result,) = best([Query("red", None, np.array([1, 0, 0], np.float32))], found, top=3)
    assert [images.names[found.places[r]] for r in result.rows][:2] == ["dark red.png", "a/red.png"]
    assert list(result.scores) == sorted(result.scores, reverse=True)
    assert result.median < result.scores[1]
    assert [name for name, _ in found.skipped] == ["broken.png"]


def test_only_new_and_changed_images_are_encoded_again(folder):
    cache, encoder = folder.parent / "i.npz", Colour()

    def again(encoder=encoder):
        before = encoder.seen
        found = index(Folder(folder), encoder, cache, say=lambda _: None)
        assert found.encoded == encoder.seen - before
        return found

    first = again()
    assert first.encoded == 4
    second = again()
    assert second.encoded == 0
    np.testing.assert_array_equal(first.embeddings, second.embeddings)
    Image.new("RGB", (8, 8), (1, 200, 1)).save(folder / "new.png")
    Image.new("RGB", (64, 65), (200, 200, 200)).save(folder / "blue.webp")
    (folder / "a/red.png").unlink()
    third = again()
    assert third.encoded == 2 and len(third.embeddings) == 4
    fresh = index(Folder(folder), Colour(), folder.parent / "other.npz", say=lambda _: None)
    np.testing.assert_array_equal(third.embeddings, fresh.embeddings)
    other = Colour()
    other.fingerprint = "other weights"
    assert again(other).encoded == 4
    cache.write_bytes(cache.read_bytes()[:100])
    assert again().encoded == 4


def test_the_cache_holds_no_pickle(folder):
    cache = folder.parent / "i.npz"
    index(Folder(folder), Colour(), cache, say=lambda _: None)
    with np.load(cache, allow_pickle=False) as held:
        assert all(held[name].dtype != object for name in held)


def test_thumbnails_are_small_and_show_small_images_by_the_pixel():
    large = thumbnail(np.zeros((3000, 2000, 3), np.uint8))
    small = thumbnail(np.zeros((32, 32, 3), np.uint8))
    assert len(large["src"]) < 20_000 and not large["pixel"]
    assert small["pixel"] and small["src"].startswith("data:image/png")


def test_a_run_searches_a_folder_by_words_and_by_image(clip_run, folder, tmp_path, capsys):
    out = tmp_path / "page.html"
    query = str(folder / "a/red.png")
    flags = dict(run=str(clip_run), folder=str(folder), out=str(out), top=2)
    run(**flags, text=["a red circle", "<b>&"], image=[query])
    assert [len(found) for found in names(out)] == [2, 2, 2]
    assert names(out)[2][0] == "a/red.png"
    text = out.read_text()
    assert "“a red circle”" in text and "&lt;b&gt;&amp;" in text and "<b>&" not in text
    assert "broken.png" in text and not re.search(r'(src|href)="(?!data:|#)', text)
    said = capsys.readouterr().out
    assert "skipped broken.png" in said and "indexed" in said
    run(**flags, text=["a red circle"])
    assert "indexed 1 of 1" in capsys.readouterr().out  # the broken one, tried again


def test_a_run_searches_its_own_data(clip_run, tmp_path):
    out = tmp_path / "page.html"
    run(run=str(clip_run), split="test", text=["a red circle"], out=str(out), top=5)
    assert len(names(out)[0]) == 5


def test_scores_are_those_of_the_run(clip_run, scenes):
    run = open_run(clip_run)
    encoders = encoders_of_run(run)
    pixels = [decode((scenes / f"{i:02d}.png").read_bytes(), 3) for i in range(3)]
    rows = encoders.images([encoders.prepare(p) for p in pixels])
    image = np.stack(pixels).astype(np.float32) / 127.5 - 1
    expected = np.asarray(run.task.encode_image(run.variables, image))
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(rows, expected, atol=1e-5)


def test_released_weights_find_what_their_run_finds(model, clip_run, folder, tmp_path):
    pages = [tmp_path / "a.html", tmp_path / "b.html"]
    query = dict(folder=str(folder), text=["a red circle", "a blue star"])
    run(model=str(model), out=str(pages[0]), **query)
    run(run=str(clip_run), out=str(pages[1]), **query)
    assert names(pages[0]) == names(pages[1])


def test_weights_without_a_tokenizer_read_images_alone(model, tmp_path):
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "tokenizer.json"):
        if (model / name).exists():
            os.replace(model / name, tokenizer / name)
    bare = released_encoders(str(model), None, None)
    assert bare.images([np.zeros((32, 32, 3), np.uint8)]).shape == (1, 8)
    with pytest.raises(ValueError, match="without a tokenizer"):
        bare.texts(["a red circle"])
    encoders = released_encoders(str(model), str(tokenizer), None)
    assert encoders.texts(["a red circle"]).shape == (1, 8)


WRONG = {
    "nothing to look for": (dict(text=[]), "nothing to look for"),
    "no towers": (dict(run=None), "one of --run and --model"),
    "two of them": (dict(model="m"), "one of --run and --model"),
    "no images": (dict(folder=None), "one of --folder and --split"),
    "foreign flag": (dict(tokenizer="t"), "--tokenizer is not read with --run"),
    "no run": (dict(run="nowhere"), "nowhere holds no run"),
    "no folder": (dict(folder="nowhere"), "nowhere: no such folder"),
    "empty folder": (dict(folder="@EMPTY@"), "no images"),
    "broken folder": (dict(folder="@BROKEN@"), "none of its 1 images can be read, first x.png"),
    "no query": (dict(image=["nowhere.png"]), "--image=nowhere.png: no such file"),
    "broken query": (dict(image=["@BROKEN@/x.png"]), "no image of a kind that can be read"),
    "empty text": (dict(text=[" "]), "is empty"),
    "split": (dict(folder=None, split="tets"), "did you mean 'test'"),
    "average": (dict(ema="slwo"), "ema='slwo' is not kept"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_one_line(clip_run, folder, tmp_path, case):
    flags, says = WRONG[case]
    empty, broken = tmp_path / "empty", tmp_path / "broken"
    empty.mkdir()
    broken.mkdir()
    (broken / "x.png").write_bytes(b"no image")

    def full(value):
        return value.replace("@EMPTY@", str(empty)).replace("@BROKEN@", str(broken))

    flags = {
        k: [full(x) for x in v] if isinstance(v, list) else full(v) if isinstance(v, str) else v
        for k, v in flags.items()
    }
    usual = dict(run=str(clip_run), folder=str(folder), text=["a"], out=str(tmp_path / "page.html"))
    with pytest.raises(ValueError) as error:
        run(**{**usual, **flags})
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "page.html").exists()
