"""`experiments.fid`: folders, data sets and files against each other; statistics are kept."""

import json
import socket
from pathlib import Path

import numpy as np
import pytest
from in_process import train

from diffjax.data.images import png
from diffjax.data.sources import make_source
from diffjax.evals.features import FeatureExtractor
from diffjax.evals.reference import write_reference
from diffjax.metrics.frechet import moments
from diffjax.pretrained.clip import released_encoders
from diffjax.pretrained.features import make_features
from diffjax.pretrained.fid_sets import captions, open_set, side_of
from diffjax.train.sharding import make_mesh

CLASSIFIER = """
from configs.common import make


def get_config(arg=None):
    return make(
        data=dict(train=dict(type="digits", split="train")),
        model=dict(type="convnet", channels=(8,), blocks=1, feature_dim=6, norm_groups=4),
        task=dict(type="classification"),
        optim=dict(type="adam", lr=1e-2),
        train=dict(steps=8, batch_size=50, checkpoint_every=8, log_every=8),
    )
"""
METRICS = "--metrics=fid,kid,inception_score,precision_recall,density_coverage,fid_infinity"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The first 60 held-out digits as files."""
    path = tmp_path_factory.mktemp("drawn")
    source = make_source("digits", split="test")
    for i in range(60):
        (path / f"{i:03d}.png").write_bytes(png(np.asarray(source[i]["image"])))
    return path


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """A classifier of digits to compare in, and a folder to keep statistics in."""
    path = tmp_path_factory.mktemp("classifier")
    (path / "small.py").write_text(CLASSIFIER)
    train(path / "small.py", path / "run")
    return (f"--weights={path / 'run'}", f"--cache={path / 'kept'}", "--batch_size=16")


@pytest.fixture(scope="module")
def whole(processes, folder, options, tmp_path_factory):
    """(numbers by name, the statistics of the reference) of one process."""
    path = tmp_path_factory.mktemp("whole")
    extra = (METRICS, "--groups=5", "--subset_size=40", f"--save={path / 'ref.npz'}")
    done = processes.run(
        str(folder), "digits:test", *options, *extra, f"--out={path / 'out.json'}", main="fid"
    )
    assert done.code == 0, done.stderr
    return numbers(path / "out.json", folder), path / "ref.npz"


def numbers(file, name):
    found = json.loads(file.read_text())[str(name)]
    assert all(np.isfinite(s["value"]) for s in found)
    return {s["name"]: s for s in found}


def test_a_folder_against_a_data_set(whole):
    found, reference = whole
    assert {"fid", "kid", "precision", "recall", "density", "fid_infinity"} <= set(found)
    assert found["fid"]["value"] > 0 and found["fid"]["std"] > 0
    assert found["precision"]["value"] == 1.0  # these digits are among the reference's
    how = found["kid"]["protocol"]
    assert how["num_samples"] == 60 and how["reference_size"] == 297 and how["subset_size"] == 40
    with np.load(reference) as held:
        assert held["mu"].shape == (6,) and int(held["count"]) == 297


def test_a_file_of_statistics_stands_for_its_images(processes, whole, folder, options, tmp_path):
    """And several draws against it are averaged; a set against itself is at 0."""
    found, reference = whole
    extra = ("--metrics=fid", f"--out={tmp_path / 'out.json'}")
    both = f"{folder},digits:test"
    done = processes.run(both, str(reference), *options, *extra, main="fid")
    assert done.code == 0, done.stderr
    got = numbers(tmp_path / "out.json", folder)["fid"]["value"]
    assert got == pytest.approx(found["fid"]["value"], rel=1e-9)
    assert abs(numbers(tmp_path / "out.json", "digits:test")["fid"]["value"]) < 1e-6
    assert f"2 draws  fid              mean {got / 2:.6g}" in done.stdout
    # Both sides known: no weights are needed.
    done = processes.run(str(reference), str(reference), main="fid")
    assert done.stdout.startswith("fid              0  [")


@pytest.mark.heavy
def test_what_is_kept_is_not_computed_again(processes, whole, folder, options, tmp_path):
    """Kept by content: a copy of the folder finds it, and so do weights in another place."""
    place = Path(options[1].partition("=")[2])
    kept = {file: file.stat().st_mtime_ns for file in place.iterdir()}
    assert len(kept) == 4  # moments and rows of either side
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    out = f"--out={tmp_path / 'out.json'}"
    arguments = (str(copy), "digits:test", *options, METRICS, "--groups=5", "--subset_size=40")
    assert processes.run(*arguments, out, main="fid").code == 0
    again = numbers(tmp_path / "out.json", copy)
    assert {n: s["value"] for n, s in again.items()} == {n: s["value"] for n, s in whole[0].items()}
    assert {file: file.stat().st_mtime_ns for file in place.iterdir()} == kept


@pytest.mark.heavy
def test_four_processes_are_one(processes, whole, folder, options, tmp_path):
    """Each sees a quarter of the images; numbers are equal to float64's rounding."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    weights, _, batch = options
    arguments = (str(folder), "digits:test", weights, batch, "--cache=", METRICS, "--groups=5",
                 "--subset_size=40", f"--out={tmp_path / 'out.json'}",
                 f"--coordinator=127.0.0.1:{port}", "--num_processes=4")  # fmt: skip
    started = [processes.start(*arguments, f"--process_id={i}", main="fid") for i in range(4)]
    outcomes = [process.wait() for process in started]
    assert [o.code for o in outcomes] == [0] * 4, outcomes[0].stderr
    assert ["protocol" in o.stdout or "fid  " in o.stdout for o in outcomes] == [True] + [False] * 3
    got = numbers(tmp_path / "out.json", folder)
    for name, scalar in whole[0].items():
        assert got[name]["value"] == pytest.approx(scalar["value"], rel=1e-6, abs=1e-9)
        assert got[name]["protocol"] == scalar["protocol"]


@pytest.mark.heavy
def test_clip_embeddings_compare_images_and_captions(processes, scenes, model, tmp_path):
    """The same images: no distance; the score is the mean cosine of the two towers."""
    extra = (
        "--metrics=clip_fid,cmmd,clip_score",
        f"--clip={model}",
        f"--out={tmp_path / 'o.json'}",
    )
    done = processes.run(str(scenes), str(scenes), *extra, "--cache=", main="fid")
    assert done.code == 0, done.stderr
    found = numbers(tmp_path / "o.json", scenes)
    assert abs(found["clip_fid"]["value"]) < 1e-6 and abs(found["cmmd"]["value"]) < 1e-6
    encoders = released_encoders(str(model), None, None)
    source = open_set(str(scenes), 3).source
    images = encoders.images([source[i]["image"] for i in range(len(source))])
    texts = encoders.texts(captions(source, "scenes"))
    expected = 100 * np.maximum((images * texts).sum(axis=1), 0).mean()
    assert found["clip_score"]["value"] == pytest.approx(expected, rel=1e-4)
    assert "reference" not in found["clip_score"]["protocol"]


def test_mistakes_are_one_line(processes, tmp_path):
    """Before anything is read."""
    cases = {
        "give SAMPLES": (),
        "unexpected argument 'c'": ("a", "b", "c"),
        "did you mean 'fid'": ("a", "b", "--metrics=fidd"),
        "give it as the second argument": ("a",),
    }
    started = {said: processes.start(*arguments, main="fid") for said, arguments in cases.items()}
    for said, process in started.items():
        outcome = process.wait()
        assert outcome.code == 2 and said in outcome.error, (said, outcome.stderr)


def test_what_cannot_be_compared_is_said(tmp_path):
    """Other channels, other protocols, images without an extractor, paths that are not there."""
    extract = FeatureExtractor(lambda w, x: (x.mean((1, 2)), None), {}, "mean", channels=1)
    x = moments(np.random.default_rng(0).normal(size=(9, 2)))
    write_reference(tmp_path / "ref.npz", x, protocol={**extract.protocol, "resize": "clean 299"})
    np.savez(tmp_path / "rgb.npz", arr_0=np.zeros((4, 8, 8, 3), np.uint8))

    def side(name, extract):
        how = {} if extract is None else extract.protocol
        return side_of(open_set(str(name), 1), extract, how, False, None, lambda done: None)

    with pytest.raises(ValueError, match="another protocol: resize 'clean 299' there, 'none' here"):
        side(tmp_path / "ref.npz", extract)
    assert side(tmp_path / "ref.npz", None).count == 9
    with pytest.raises(ValueError, match="images of 3 channels, but mean takes 1"):
        side(tmp_path / "rgb.npz", extract)
    with pytest.raises(ValueError, match="holds images: give --weights"):
        side(tmp_path / "rgb.npz", None)
    with pytest.raises(ValueError, match=r"a: no folder, no \.npz file, and no data set"):
        open_set("a", 1)
    with pytest.raises(ValueError, match=r"no such folder or \.npz file"):
        open_set("none/there", 1)
    with pytest.raises(ValueError, match=r"none\.npz cannot be read"):
        open_set("none.npz", 1)
    source = open_set(str(tmp_path / "rgb.npz"), 3).source
    with pytest.raises(ValueError, match=r"compares images with captions; rgb\.npz has none"):
        captions(source, "rgb.npz")


def test_a_config_may_name_the_weights_of_inception(tmp_path):
    """As `features=dict(type="inception", weights=...)`; a mistake shows at once."""

    def made(**section):
        return make_features({"type": "inception", **section}, make_mesh())

    with pytest.raises(ValueError, match=r"none\.pth: no such file or folder"):
        made(weights="none.pth")
    with pytest.raises(ValueError, match="unknown key of features 'inception': 'wieghts'"):
        made(wieghts="x")
    (tmp_path / "w.pth").write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match=r"w\.pth cannot be read as a torch archive"):
        made(weights=str(tmp_path / "w.pth"))
    assert make_features(None, make_mesh()) is None


def test_images_beside_moments_give_the_rows(tmp_path):
    """guided-diffusion's references: moments of all, and some of the images for the manifolds."""
    rng = np.random.default_rng(0)
    extract = FeatureExtractor(lambda w, x: (x.mean((1, 2)), None), {}, "mean")
    x = moments(rng.normal(size=(500, 3)))
    images = rng.integers(0, 256, (7, 4, 4, 3)).astype(np.uint8)
    write_reference(tmp_path / "ref.npz", x, images=images)
    given = open_set(str(tmp_path / "ref.npz"), 3)
    for keep_rows in (False, True):
        side = side_of(given, extract, {}, keep_rows, None, lambda done: None)
        np.testing.assert_array_equal(side.moments.cov, x.cov)
    np.testing.assert_allclose(side.rows.features, images.mean((1, 2)) / 127.5 - 1, atol=1e-6)
