"""What a user can get wrong: one line on stderr that says what, where and what to do, an exit code,
no traceback, before any compute is spent where that can be; and nothing that was there is lost."""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from in_process import refusal, train
from PIL import Image

# (overrides, what the line must say); each is refused before anything is trained.
WRONG = {
    "section": (["optimm.lr=1"], "did you mean 'optim'"),
    "key": (["optim.learning=1"], "unknown key of optim: 'learning'"),
    "near key": (["train.step=5"], "did you mean 'steps'"),
    "nested key": (["task.schedule.stpes=9"], "did you mean 'steps'"),
    "nested type": (["task.schedule.type=cosin"], "did you mean 'cosine'"),
    "network key": (["model.widht=8"], "did you mean 'width'"),
    "number": (["train.batch_size=many"], "expected a number like 16"),
    "whole number": (["train.batch_size=16.5"], "expected a whole number like 16"),
    "new number": (["optim.eps=small"], "optim: eps='small'"),
    "new flag": (["data.cache=7"], "cache=7"),
    "empty value": (["train.steps="], "train.steps"),
    "zero": (["train.log_every=0"], "train.log_every=0 must be at least 1"),
    "no accumulation": (["train.grad_accum=0"], "train.grad_accum=0 must be at least 1"),
    "microbatches": (["train.grad_accum=3"], "not divisible by train.grad_accum=3"),
    "dispatch": (["train.steps_per_dispatch=7"], "multiple of train.steps_per_dispatch=7"),
    "mesh": (["mesh.data=3"], "mesh (data=3, fsdp=1, tensor=1) does not fit 1 devices"),
    "large batch": (["train.batch_size=5000"], "lower train.batch_size"),
    "too few classes": (["conditions.label.classes=4"], "the data have 10 classes"),
    "source": (["data.train.type=digit"], "did you mean 'digits'"),
    "source key": (["data.train.splitt=train"], "did you mean 'split'"),
    "evaluator": (["evals.samples.type=sample"], "did you mean 'samples'"),
    "evaluator key": (["evals.samples.colums=3"], "did you mean 'columns'"),
    "evaluator ema": (["evals.samples.ema=slwo"], "did you mean 'slow'"),
    "sampler": (["evals.samples.pred_kw.sampler=dimm"], "did you mean 'ddim'"),
    "sampler option": (["evals.samples.pred_kw.etaa=1"], "did you mean 'eta'"),
    "predict function": (["evals.samples.pred=smaple"], "did you mean 'sample'"),
    "guidance, no classes": (
        ["conditions.label.classes=0", "evals.samples.pred_kw.guidance=2.0"],
        "guidance needs a conditional model",
    ),
    "guidance, no null class": (
        ["conditions.label.drop=0", "evals.samples.pred_kw.guidance=2.0"],
        "guidance needs a null condition",
    ),
    "no features": (["evals.samples.type=generation"], "features"),
}


@pytest.fixture(scope="module")
def config(tiny, tmp_path_factory) -> Path:
    """The tiny config with an evaluator to get wrong."""
    path = tmp_path_factory.mktemp("bad") / "evaluated.py"
    path.write_text(
        tiny.read_text()
        + "\nbase = get_config\n"
        + "def get_config(arg=None):\n"
        + "    config = base(arg)\n"
        + "    config.evals.samples = dict(type='samples', pred_kw=dict(steps=2), columns=1)\n"
        + "    return config\n"
    )
    return path


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_config_is_one_line(config, tmp_path, case, capfd):
    changes, said = WRONG[case]
    workdir = tmp_path / "run"
    assert said in refusal(config, workdir, *changes)
    shown = capfd.readouterr()
    assert not shown.err and "step " not in shown.out
    assert not (workdir / "checkpoints").exists()


@pytest.mark.parametrize("case", ["near key", "no features"])
def test_a_wrong_config_ends_its_process(processes, config, tmp_path, case):
    changes, said = WRONG[case]
    workdir = tmp_path / "run"
    outcome = processes.run(
        f"--config={config}", f"--workdir={workdir}", *(f"--config.{c}" for c in changes)
    )
    assert outcome.code == 2, outcome
    assert said in outcome.error
    assert outcome.stderr.count("\n") == 1
    assert "step " not in outcome.stdout and not (workdir / "checkpoints").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config=configs/no_such.py", "--workdir=x"], "no such file"),
        (["--config=configs/ddpm/digits.py"], "workdir"),
        (["--config=configs/ddpm/digits.py", "--workdirr=x"], "workdir"),
        (["--config=configs/ddpm/digits.py", "--workdir=x", "surplus"], "surplus"),
        (["--config=configs/ddpm/digits.py:other", "--workdir=x"], "argument"),
        (["--config=configs/ddpm/digits.py", "--workdir=/dev/null/x"], "/dev/null"),
    ],
)
def test_a_wrong_command_line_is_one_line(processes, tmp_path, arguments, said):
    arguments = [a.replace("=x", f"={tmp_path / 'x'}") for a in arguments]
    outcome = processes.run(*arguments)
    assert outcome.code == 2, outcome
    assert said in outcome.error and outcome.stderr.count("\n") == 1


def test_a_config_file_that_is_broken_names_its_line(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("import ml_collections\ndef get_config(arg=None)\n    return 1\n")
    said = refusal(path, tmp_path / "run")
    assert "broken.py" in said and "line 2" in said


def test_a_batch_that_does_not_split_over_the_devices(processes, tiny, tmp_path):
    outcome = processes.run(
        f"--config={tiny}", f"--workdir={tmp_path}", "--config.train.batch_size=12", devices=8
    )
    assert outcome.code == 2 and "make it a multiple of 8" in outcome.error


def test_a_folder_without_images(config, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    said = refusal(folder_config(config, images, tmp_path), tmp_path / "run")
    assert f"{images}: no images (.png" in said


def folder_config(tiny_path: Path, folder: Path, out: Path, **options) -> Path:
    """The tiny config over a folder of images."""
    path = out / "folder.py"
    section = {"type": "folder", "path": str(folder), "size": 8, "channels": 1, **options}
    path.write_text(
        tiny_path.read_text()
        + "\nbefore = get_config\n"
        + "def get_config(arg=None):\n"
        + "    config = before(arg)\n"
        + f"    config.data.train = {section}\n"
        + "    config.evals = {}\n"
        + "    config.train.update(steps=2, batch_size=4, checkpoint_every=2, log_every=2)\n"
        + "    return config\n"
    )
    return path


def test_a_corrupt_image_is_named_or_skipped(config, tmp_path, capfd, caplog):
    images = tmp_path / "images"
    for name in ("a", "b"):
        (images / name).mkdir(parents=True)
        for i in range(4):
            noise = np.random.default_rng(i).integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(noise).save(images / name / f"{i}.png")
    (images / "b" / "3.png").write_bytes((images / "b" / "3.png").read_bytes()[:40])
    path = folder_config(config, images, tmp_path)
    said = refusal(path, tmp_path / "run")
    assert "3.png" in said and "skip" in said
    path = folder_config(config, images, tmp_path, on_corrupt="skip")
    train(path, tmp_path / "run")
    assert "step 2/2" in capfd.readouterr().out
    assert "skipped 1 of 8" in caplog.text


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory) -> Path:
    """The workdir of a run of 8 steps, saved at 4 and 8."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    train(tiny, workdir, *SHORT)
    return workdir


SHORT = ("train.steps=8", "train.checkpoint_every=4")


def command(config: Path, workdir: Path, *more: str) -> list[str]:
    short = [f"--config.{change}" for change in SHORT]
    return [f"--config={config}", f"--workdir={workdir}", *short, *more]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under `folder`."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_workdir_of_another_config_says_what_differs(tiny, trained):
    before = contents(trained)
    assert "optim.lr was 0.001, is 0.5" in refusal(tiny, trained, *SHORT, "optim.lr=0.5")
    assert contents(trained) == before


def test_a_config_json_cut_short_says_so(tiny, trained, tmp_path):
    workdir = Path(shutil.copytree(trained, tmp_path / "run"))
    text = (workdir / "config.json").read_text()
    (workdir / "config.json").write_text(text[: len(text) // 2])
    assert f"{workdir / 'config.json'}" in refusal(tiny, workdir, *SHORT)


def test_the_last_good_checkpoint_is_used_and_said(tiny, trained, tmp_path, capfd, caplog):
    workdir = Path(shutil.copytree(trained, tmp_path / "run"))
    data = [p for p in (workdir / "checkpoints" / "8").rglob("*") if p.is_file()]
    largest = max(data, key=lambda p: p.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:100])
    train(tiny, workdir, *SHORT)
    assert "using the last good one, step 4" in caplog.text
    assert "resuming at step 4 of 8" in capfd.readouterr().out
    assert (workdir / "unreadable" / "8").is_dir() and (workdir / "checkpoints" / "8").is_dir()


def test_no_readable_checkpoint_is_an_error(tiny, trained, tmp_path):
    workdir = Path(shutil.copytree(trained, tmp_path / "run"))
    for metadata in (workdir / "checkpoints").glob("*/state/manifest.ocdbt"):
        metadata.write_bytes(b"")
    assert "can be read" in refusal(tiny, workdir, *SHORT)
    assert {p.name for p in (workdir / "checkpoints").iterdir()} == {"4", "8"}


def test_a_workdir_without_a_run(processes, tmp_path):
    outcome = processes.run(f"--run={tmp_path}", main="sample")
    assert outcome.code == 2 and "holds no run" in outcome.error


def test_a_step_that_was_not_saved(processes, trained):
    outcome = processes.run(f"--run={trained}", "--step=5", main="sample")
    assert outcome.code == 2 and "it holds 4, 8" in outcome.error


@pytest.mark.heavy
def test_a_file_that_may_not_grow_stops_the_run_and_keeps_the_last_step(
    processes, tiny, trained, tmp_path
):
    """A quota: no file may grow over some bytes, fewer than one of a checkpoint's has."""
    workdir = tmp_path / "run"
    metadata = (trained / "checkpoints" / "8" / "state" / "_METADATA").stat().st_size
    outcome = processes.run(*command(tiny, workdir), file_size=metadata // 2)
    assert outcome.code == 3, outcome
    assert "File too large; no step was saved yet" in outcome.error
    assert processes.run(*command(tiny, workdir)).code == 0


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 3 MiB."""
    point = tmp_path / "disk"
    point.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", point], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a tmpfs can be mounted by root alone")
    yield point
    subprocess.run(["umount", "-l", point], check=False)


@pytest.mark.heavy
@pytest.mark.skipif(os.geteuid() != 0, reason="a tmpfs can be mounted by root alone")
def test_a_full_disk_stops_the_run_and_keeps_the_last_step(processes, tiny, trained, small_disk):
    longer = command(tiny, small_disk / "run", "--config.train.steps=400")
    process = processes.start(*longer)
    process.until("step  12/400")
    filler = small_disk / "filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"0" * 4096)
    outcome = process.wait()
    assert outcome.code == 3, outcome
    assert "No space left on device" in outcome.error
    assert "is the last good one" in outcome.error
    last = int(outcome.error.rpartition("step ")[2].split()[0])
    assert (small_disk / "run" / "checkpoints" / str(last)).is_dir()
    filler.unlink()
    again = processes.start(*longer)
    again.until("step")
    again.until(f"step {last + 8:>3}/400")
    again.kill()
    assert f"resuming at step {last} of" in again.wait().stdout
