"""Prepared sets: digits, array_record from folders and archives, all without TensorFlow."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from processes import PROGRAM
from sklearn.datasets import load_digits

from diffjax.data.builders import cifar, digits
from diffjax.data.builders.base import CONTENT, RecordBuilder, image_features, prepare
from diffjax.data.evaluation import as_arrays
from diffjax.data.images import png
from diffjax.data.sources import make_source
from tests.data.pictures import pixels, write

ROOT = Path(__file__).parents[2]


def python(*args, **env):
    return subprocess.run(
        [sys.executable, *map(str, args)],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **env},
        capture_output=True,
        text=True,
        timeout=120,
    )


def to_levels(pixels):
    """Ink 0..16 of pixels 0..255."""
    return np.rint(pixels * (16 / 255)).astype(np.uint8)


def test_levels_survive_eight_bits():
    levels = np.arange(17)
    assert digits.to_uint8(levels)[[0, 16]].tolist() == [0, 255]
    np.testing.assert_array_equal(to_levels(digits.to_uint8(levels)), levels)


def test_digits_are_the_digits(data_dir):
    bunch = load_digits()
    want = sorted(zip(bunch.images.astype(int).reshape(-1, 64).tolist(), bunch.target, strict=True))
    have = []
    for split, size in (("train", 1500), ("test", 297)):
        source = make_source("digits", split=split, data_dir=data_dir)
        assert len(source) == size and source.info.num_classes == 10
        assert source.info.image_shape == (8, 8, 1)
        data = as_arrays(source, [])
        levels = to_levels(data["image"]).reshape(size, 64)
        have += zip(levels.tolist(), data["label"], strict=True)
    assert sorted(have) == want


def test_the_split_is_stratified_and_does_not_change():
    labels = load_digits().target
    split = digits.split_indices(labels)
    share = np.bincount(labels[split["test"]]) / np.bincount(labels) * 1797 / 297
    assert np.abs(share - 1).max() < 0.03
    assert not set(split["test"]) & set(split["train"])
    pinned = hashlib.sha256(split["test"].astype("<i8").tobytes()).hexdigest()[:16]
    assert pinned == "ac759894a60f572d"


def test_slices_and_errors(data_dir):
    assert len(make_source("digits", split="train[:20%]", data_dir=data_dir)) == 300
    folder = data_dir / "digits" / "1.0.0"
    for section, message in (
        (dict(type="digits", split="valid"), f"{folder}: no split 'valid' (splits: train, test)"),
        (dict(type="tfds", name="cats"), f"{data_dir / 'cats'}: no prepared data set there"),
        (dict(type="tfds", name="digits:9.0.0"), "unknown version of 'digits' '9.0.0'"),
        (dict(type="digit"), "unknown source 'digit'; did you mean 'digits'?"),
    ):
        options = {} if section["type"] == "digit" else {"data_dir": data_dir}
        with pytest.raises(ValueError) as error:
            make_source(**section, **options)
        assert message in str(error.value) and "\n" not in str(error.value)


def test_two_processes_prepare_at_once(processes, tmp_path):
    program = (
        "from diffjax.data.sources import make_source;"
        f"print(len(make_source('digits', data_dir={str(tmp_path)!r})))"
    )
    running = [processes.start(program, "", main=PROGRAM) for _ in range(2)]
    for process in running:
        done = process.wait()
        assert done.code == 0 and done.stdout == "1500\n", done.stderr
    assert [f.name for f in tmp_path.iterdir()] == ["digits"]


def test_a_preparation_that_fails_leaves_nothing(tmp_path):
    def records():
        yield {"image": png(pixels(0))}
        raise RuntimeError("power cut")

    def make(aside):
        return RecordBuilder(
            name="half",
            records={"train": records},
            fingerprints={"train": "0"},
            features=image_features((12, 10, 3)),
            data_dir=aside,
            description="",
        )

    with pytest.raises(RuntimeError):
        prepare(make, "half", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_tensorflow_and_no_torch(data_dir):
    code = (
        "import sys; from diffjax.data.sources import make_source;"
        f"make_source('digits', data_dir={str(data_dir)!r})[0];"
        "print([m for m in ('tensorflow', 'torch') if m in sys.modules])"
    )
    assert python("-c", code).stdout == "[]\n"


def test_a_stored_label_outside_the_classes_is_named(data_dir, monkeypatch):
    source = make_source("digits", data_dir=data_dir)
    stored = [{"image": png(pixels(0, 8, 8, 1)), "label": np.int64(10)}]
    monkeypatch.setattr(source, "_records", stored)
    with pytest.raises(ValueError, match=r"1.0.0: record 0 has label 10, outside \[0, 10\)"):
        source[0]
    monkeypatch.setattr(source, "_records", [{"image": b"\x89PNG", "label": np.int64(1)}])
    with pytest.raises(ValueError, match=r"1.0.0: record 0 is corrupt"):
        source[0]


def cifar_archive(path, count=4):
    """An archive in CIFAR-10's layout, of `count` random records a file."""
    names = ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    images = {}
    with tarfile.open(path, "w:gz") as tar:

        def add(name, data):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))

        add("batches.meta.txt", "\n".join([*names, ""]).encode())
        for k, file in enumerate([*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]):
            images[file] = np.stack([pixels(100 * k + i, 32, 32) for i in range(count)])
            planes = images[file].transpose(0, 3, 1, 2).reshape(count, -1)
            labels = ((np.arange(count) + k) % 10).astype(np.uint8)[:, None]
            add(file, np.hstack([labels, planes]).tobytes())
    return names, images, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.heavy
def test_cifar_archive(tmp_path):
    archive, data = tmp_path / "cifar-10-binary.tar.gz", tmp_path / "data"
    names, images, sha = cifar_archive(archive)
    command = ("-m", "experiments.prepare_data", "--source=cifar10", f"--path={archive}")
    wrong = python(*command, f"--data_dir={data}")
    assert wrong.returncode == 2 and f"{archive}: SHA-256 is {sha}, not c4a38c50" in wrong.stderr
    assert len(wrong.stderr.strip().splitlines()) == 1
    done = python(*command, f"--data_dir={data}", f"--sha256={sha}")
    assert done.returncode == 0, done.stderr
    assert "train: 20 images 32x32x3, 10 classes" in done.stdout
    train = make_source("tfds", name="cifar10", data_dir=data)
    assert train.info.class_names == tuple(names)
    np.testing.assert_array_equal(train[5]["image"], images["data_batch_2.bin"][1])
    assert train[5]["label"] == 2
    test = make_source("tfds", name="cifar10", split="test", data_dir=data)
    np.testing.assert_array_equal(test[0]["image"], images["test_batch.bin"][0])


def test_cifar_faults(tmp_path):
    with pytest.raises(ValueError, match=r"a.bin: 10 bytes are not records of 3073"):
        cifar.parse(b"0" * 10, 1, "a.bin")
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz"):
        pass
    sha = hashlib.sha256((tmp_path / "x.tar.gz").read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=r"x.tar.gz: holds no cifar-10-batches-bin/batches.meta"):
        cifar.builder("cifar10", tmp_path / "x.tar.gz", tmp_path, sha)
    with pytest.raises(ValueError, match=r"none.tar.gz: no such file"):
        cifar.builder("cifar10", tmp_path / "none.tar.gz", tmp_path, sha)


@pytest.mark.heavy
def test_folder_to_array_record(class_folder, tmp_path):
    data = tmp_path / "data"
    command = ("-m", "experiments.prepare_data", "--source=folder", f"--path={class_folder}")
    done = python(*command, f"--data_dir={data}", "--name=pets8", "--size=8")
    assert done.returncode == 0, done.stderr
    direct = make_source("folder", path=class_folder, size=8)
    stored = make_source("tfds", name="pets8", data_dir=data)
    assert stored.info.class_names == direct.info.class_names
    assert stored.info.image_shape == (8, 8, 3) and len(stored) == 6
    for a, b in zip(direct, stored, strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
        assert a["label"] == b["label"]
    again = python(*command, f"--data_dir={data}", "--name=pets8", "--size=8")
    assert again.returncode == 0, again.stderr
    write(class_folder / "cat" / "9.png", pixels(9))
    other = python(*command, f"--data_dir={data}", "--name=pets8", "--size=8")
    assert other.returncode == 2 and "pets8/1.0.0: holds other data than" in other.stderr


def test_captions_and_files_as_they_are_survive_array_record(processes, tmp_path):
    for split, count in (("train", 3), ("test", 2)):
        for i in range(count):
            file = write(tmp_path / "photos" / split / f"{i}.jpg", pixels(i, 10 + i, 20))
            file.with_suffix(".txt").write_text(f"photo {i} é")
    (tmp_path / "photos" / "train" / "2.jpg").write_text("broken")
    data = tmp_path / "data"
    done = processes.run(
        *("--source=folder", f"--path={tmp_path / 'photos'}", f"--data_dir={data}"),
        *("--splits=train,test", "--on_corrupt=skip"),
        main="prepare_data",
    )
    assert done.code == 0, done.stderr
    assert "train: skipped 2.jpg (" in done.stdout and "train: 2 images ?x?x3" in done.stdout
    assert (data / "photos" / "1.0.0" / CONTENT).exists()
    stored = make_source("tfds", name="photos", data_dir=data)
    direct = make_source("folder", path=tmp_path / "photos", split="train", on_corrupt="skip")
    for a, b in zip(direct, stored, strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
        assert a["caption"] == b["caption"]


def test_prepare_data_refuses_what_it_cannot_do(processes, tmp_path):
    for args, message in (
        (("--source=fodler",), "unknown --source 'fodler'; did you mean 'folder'?"),
        (("--source=folder",), "--source=folder needs --path"),
    ):
        done = processes.run(f"--data_dir={tmp_path}", *args, main="prepare_data")
        assert done.code == 2 and message in done.error
        assert len(done.stderr.strip().splitlines()) == 1
