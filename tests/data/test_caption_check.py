"""Captions that cannot be tokenised are found before anything is drawn, where they stand."""

import html
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import ftfy
import numpy as np
import pytest

from configs.common import make
from diffjax.assembly.experiment import Experiment
from diffjax.data import captions as module
from diffjax.data.arrays import ArraySource
from diffjax.data.builders.base import prepare
from diffjax.data.builders.folder import builder
from diffjax.data.captions import captions_of, check_captions
from diffjax.data.cleaning import clean_openai
from diffjax.data.folder import FolderSource
from diffjax.data.sources import make_source
from diffjax.data.tokenizer_training import train_tokenizer
from diffjax.data.transforms import make_transforms
from experiments import prepare_data
from tests.data.captions import strange
from tests.data.pictures import pixels, write

CLEANED = [*strange(300, seed=4), "a\tb", "it's  a B\n", "&amp;", "\x1b[1m"]
TOKENIZER = train_tokenizer(["a red cube"], 520, context=10)


def transforms(tokenizer=TOKENIZER, **options):
    return make_transforms([dict(type="tokenize", **options), dict(type="to_float")], tokenizer)


@pytest.fixture
def folder(tmp_path):
    """40 images; row 31 of the table has a second caption that is too long, row 32 no word."""
    folder = tmp_path / "set"
    rows = []
    for i in range(40):
        write(folder / f"{i:02d}.png", pixels(i, 4, 4))
        rows.append({"file_name": f"{i:02d}.png", "caption": ["a cube", "red"]})
    rows[30]["caption"][1] = "red cube " * 20
    rows[31]["caption"][0] = " \u00a0"
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def refused(source, *message, **options):
    with pytest.raises(ValueError) as error:
        check_captions(source, transforms(**options))
    for part in message:
        assert part in str(error.value), str(error.value)
    assert "\n" not in str(error.value)


def test_the_file_and_the_line_are_named(folder):
    source = FolderSource(folder)
    refused(source, f"{folder}/metadata.jsonl, line 31: the caption has ", "the context 10")
    refused(source, f"{folder}/metadata.jsonl, line 32: the caption is empty", pick="first")
    refused(source, "line 31: the caption has", pick="last")
    cut = replace(TOKENIZER, overlong="truncate")
    refused(source, "line 32: the caption is empty", tokenizer=cut)
    check_captions(source, transforms(replace(cut, empty="allow")))
    check_captions(source, make_transforms([dict(type="to_float")]))


def test_captions_are_read_without_images(folder, monkeypatch):
    source = FolderSource(folder)
    monkeypatch.setattr(FolderSource, "pixels", lambda *a: pytest.fail("decoded an image"))
    assert len(list(captions_of(source))) == 40
    refused(source, "line 31")


def test_an_empty_file_beside_an_image(tmp_path):
    for i in range(3):
        write(tmp_path / f"{i}.png", pixels(i, 4, 4))
        (tmp_path / f"{i}.txt").write_text("red" if i else "\n")
    refused(FolderSource(tmp_path), f"{tmp_path}/0.txt: the caption is empty: ''")


def test_arrays_and_sources_of_others():
    images = np.zeros((3, 2, 2, 3), np.uint8)
    refused(
        ArraySource(images, caption=["red", ["a"], ""]), "array: record 2: the caption is empty"
    )
    refused(ArraySource(images, caption=["a", [], "b"]), "array: record 1: an empty list")

    class Plain:
        info = ArraySource(images).info
        captions = True

        def __len__(self):
            return 2

        def __getitem__(self, i):
            return {"image": images[i], "caption": ["red", "red " * 30][i]}

    refused(Plain(), "array: record 1: the caption has")


def test_prepared_sets_are_read_up_to_a_size(folder, tmp_path, monkeypatch, caplog):
    sources = {"train": FolderSource(folder)}
    prepare(lambda aside: builder("cubes", sources, aside), "cubes", tmp_path)
    stored = make_source("tfds", name="cubes", data_dir=tmp_path)
    want = [caption for _, caption in captions_of(sources["train"])]
    assert [caption for _, caption in captions_of(stored)] == want
    assert [stored[i]["caption"] for i in (0, 30)] == [want[0], want[30]]
    part = make_source("tfds", name="cubes", split="train[35:]", data_dir=tmp_path)
    assert len(list(captions_of(part))) == 5
    bare = make_source("tfds", name="cubes", data_dir=tmp_path, fields=("label",))
    assert list(captions_of(bare)) == []
    refused(stored, f"{stored.folder}: record 30: the caption has")
    monkeypatch.setattr(module, "MANY", 39)
    check_captions(stored, transforms())
    assert "its 40 captions are not checked now" in caplog.text


def config(folder, **data):
    return make(
        data=dict(
            train=dict(type="folder", path=str(folder)),
            transforms=(dict(type="tokenize"), dict(type="to_float")),
            eval_transforms=(dict(type="tokenize", pick="first"), dict(type="to_float")),
            **data,
        ),
        tokenizer=dict(type="train", vocab_size=520, context=10),
        model=dict(type="clip", embed=8, image=dict(type="vit"), text={}),
        task=dict(type="clip"),
        optim=dict(type="adam", lr=1e-3),
        train=dict(steps=50, batch_size=2, checkpoint_every=50, log_every=50),
    )


def test_a_run_is_refused_when_it_starts(folder, tmp_path):
    with pytest.raises(ValueError, match=r"set/metadata.jsonl, line 31: the caption has"):
        Experiment(config(folder), tmp_path / "run")


@pytest.mark.parametrize("text", CLEANED)
def test_the_short_way_of_cleaning_comes_to_the_same(text):
    for given in (text, text.encode("ascii", "ignore").decode()):
        long = html.unescape(html.unescape(ftfy.fix_text(given)))
        assert clean_openai(given) == re.sub(r"\s+", " ", long.strip()).strip().lower()


def test_prepare_data_checks_captions_by_a_tokenizer(folder, tmp_path, monkeypatch, capsys):
    TOKENIZER.save(tmp_path / "words")
    given = SimpleNamespace(
        source="folder", path=str(folder), data_dir=str(tmp_path / "data"), name="cubes", splits=[],
        size=None, channels=3, classes=[], on_corrupt="error", tokenizer=str(tmp_path / "words"),
        font=None,
    )  # fmt: skip
    monkeypatch.setattr(prepare_data, "FLAGS", given)
    with pytest.raises(ValueError, match=r"metadata.jsonl, line 31: the caption has"):
        prepare_data.main()
    assert not (tmp_path / "data").exists()
    given.tokenizer = None
    prepare_data.main()
    assert "train: 40 images" in capsys.readouterr().out
