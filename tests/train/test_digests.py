"""A checkpoint's content is checked: no bit of a step can change without its being set aside."""

import logging
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from toys import make_run

from diffjax.train import digests
from diffjax.train.checkpoint import Checkpoints
from diffjax.train.loop import train
from diffjax.train.run import build_state


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of 8 steps, saved at 4 and 8."""
    run = make_run(tmp_path_factory.mktemp("run"))
    train(run)
    return run


@pytest.fixture(scope="module")
def fresh(run):
    with jax.set_mesh(run.mesh):
        return build_state(run)[0]


@pytest.fixture
def folder(run, tmp_path) -> Path:
    return Path(shutil.copytree(run.workdir / "checkpoints", tmp_path / "run" / "checkpoints"))


def opened(folder: Path, fresh, step: int | None = None, read_only: bool = False):
    checkpoints = Checkpoints(folder, read_only=read_only)
    try:
        got: Any = checkpoints.restore(fresh) if step is None else checkpoints.read(step, fresh)
        return got
    finally:
        checkpoints.close()


def files(step: Path) -> list[Path]:
    return sorted(p for p in step.rglob("*") if p.is_file())


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def test_a_flipped_bit_anywhere_in_a_step_is_found(run, fresh, tmp_path, caplog):
    """Twenty places drawn over all bytes of the step, and one in each of its files."""
    drawn, step = random.Random(0), run.workdir / "checkpoints" / "8"
    every = [(p, 8 * p.stat().st_size) for p in files(step)]
    anywhere = drawn.choices(every, [bits for _, bits in every], k=20)
    for number, (path, bits) in enumerate([*anywhere, *every]):
        folder = tmp_path / str(number) / "checkpoints"
        shutil.copytree(run.workdir / "checkpoints", folder)
        flip(folder / "8" / path.relative_to(step), drawn.randrange(bits))
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            state, _ = opened(folder, fresh)
        assert int(state.step) == 4, path
        lines = [m for m in caplog.messages if "cannot be read" in m]
        assert len(lines) == 1 and f"({path.relative_to(step)} is not as it was saved)" in lines[0]
        assert "using the last good one, step 4" in lines[0]
        assert (folder.parent / "unreadable" / "8").is_dir()


def test_the_digests_are_part_of_the_step_before_it_has_its_name(run, fresh, tmp_path, monkeypatch):
    """A kill right after the rename leaves a step whose content is checked all the same."""
    monkeypatch.setattr(Checkpoints, "wait", lambda self: self._manager.wait_until_finished())
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, fresh, {"data": {"fingerprint": {}}})
    checkpoints.wait()
    checkpoints.close()
    step = tmp_path / "checkpoints" / "1"
    listed = digests.read(step)
    assert listed is not None
    late = {"_CHECKPOINT_METADATA", "commit_success.txt", digests.NAME}
    assert set(listed) == {p.relative_to(step).as_posix() for p in files(step)} - late
    assert opened(tmp_path / "checkpoints", fresh) is not None
    data = max(files(step / "state"), key=lambda p: p.stat().st_size)
    flip(data, 8 * data.stat().st_size // 2)
    with pytest.raises(ValueError, match=r"no checkpoint in .* can be read: 1 .*is not"):
        opened(tmp_path / "checkpoints", fresh)


def test_the_usual_program_checks_them_too(folder):
    said = subprocess.run(
        ["sha256sum", "--check", "--strict", digests.NAME],
        cwd=folder / "8", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said
    assert said.stdout.count(": OK") == len(files(folder / "8")) - 1


def test_a_step_of_before_is_read_and_that_is_said_once(folder, fresh, caplog):
    for step in ("4", "8"):
        (folder / step / digests.NAME).unlink()
    with caplog.at_level(logging.WARNING):
        state, _ = opened(folder, fresh)
    assert int(state.step) == 8
    assert [r.getMessage() for r in caplog.records if "kept no digests" in r.getMessage()] == [
        f"Checkpoint 8 in {folder} is of a version that kept no digests: its content cannot be "
        "checked"
    ]


def test_a_step_asked_for_by_number_is_checked(folder, fresh):
    flip(folder / "4" / "meta" / "metadata", 3)
    with pytest.raises(ValueError, match=r"checkpoint 4 .*\(meta/metadata is not as .*: 8$"):
        opened(folder, fresh, step=4, read_only=True)
    assert int(opened(folder, fresh, step=8, read_only=True)[0].step) == 8
    with pytest.raises(ValueError, match="no checkpoint of step 5; it holds 4, 8"):
        opened(folder, fresh, step=5, read_only=True)


def test_who_only_reads_changes_nothing(folder, fresh, caplog):
    """A run may be saving here: its unfinished save is left alone, and damaged steps stay."""
    flip(folder / "8" / "meta" / "metadata", 3)
    unfinished = folder / "12.orbax-checkpoint-tmp"
    unfinished.mkdir()
    before = files(folder.parent)
    with caplog.at_level(logging.WARNING):
        state, _ = opened(folder, fresh, read_only=True)
    assert int(state.step) == 4 and "using the last good one, step 4" in caplog.text
    assert files(folder.parent) == before and unfinished.is_dir()
    assert opened(folder.parent / "none", fresh, read_only=True) is None
    assert not (folder.parent / "none").exists()


def test_a_step_that_is_removed_while_it_is_read_is_passed_over(folder, fresh, monkeypatch):
    checkpoints = Checkpoints(folder, read_only=True)
    check = Checkpoints._check

    def removed(self, step):
        if step == 8:
            shutil.rmtree(folder / "8")
        return check(self, step)

    monkeypatch.setattr(Checkpoints, "_check", removed)
    restored = checkpoints.restore(fresh)
    assert restored is not None
    state, _ = restored
    assert int(state.step) == 4


def test_a_good_step_that_does_not_fit_is_not_set_aside(run, folder):
    with jax.set_mesh(run.mesh):
        other = build_state(make_run(run.workdir, emas={}))[0]
    with pytest.raises(
        ValueError, match=r"checkpoint 8 in .* is as it was saved, but does not fit"
    ):
        opened(folder, other)
    assert sorted(p.name for p in folder.iterdir()) == ["4", "8"]


def test_a_save_goes_on_in_the_background_while_digests_are_made(fresh, tmp_path, monkeypatch):
    import threading

    release, begun, write = threading.Event(), threading.Event(), digests.write

    def slow(folder, without=()):
        begun.set()
        release.wait(30)
        write(folder, without)

    monkeypatch.setattr(digests, "write", slow)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, fresh, {"data": {"fingerprint": {}}})
    assert begun.wait(30) and not (tmp_path / "checkpoints" / "1").exists()
    release.set()
    checkpoints.wait()
    checkpoints.close()
    listed = digests.read(tmp_path / "checkpoints" / "1")
    assert listed is not None and "_CHECKPOINT_METADATA" in listed


def test_digests_that_cannot_be_written_are_an_error_of_the_save(fresh, tmp_path, monkeypatch):
    def full(folder, without=()):
        raise OSError(28, "No space left on device")

    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, fresh, {"data": {"fingerprint": {}}})
    checkpoints.wait()
    monkeypatch.setattr(digests, "write", full)
    checkpoints.save(2, fresh, {"data": {"fingerprint": {}}})
    with pytest.raises(RuntimeError, match="No space left on device; step 1 is the last good one"):
        checkpoints.wait()
    checkpoints.close()


def test_every_digest_is_of_the_whole_file(tmp_path):
    (tmp_path / "a").write_bytes(np.arange(10**6, dtype=np.int32).tobytes())
    (tmp_path / "b c").mkdir()
    (tmp_path / "b c" / "d").write_bytes(b"")
    digests.write(tmp_path)
    listed = digests.read(tmp_path)
    assert listed is not None and sorted(listed) == ["a", "b c/d"]
    assert digests.differing(tmp_path, listed, listed) == []
    flip(tmp_path / "a", 4 * 10**6 * 8 - 1)
    (tmp_path / "b c" / "d").unlink()
    assert digests.differing(tmp_path, listed, ["b c/d", "a"]) == ["b c/d", "a"]
