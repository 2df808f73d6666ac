"""A damaged checkpoint is told from a good one, whichever of its files is cut short."""

import logging
from pathlib import Path

import jax
import numpy as np
import pytest
from toys import make_run

from diffjax.train.checkpoint import Checkpoints
from diffjax.train.loop import train
from diffjax.train.run import build_state


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("run"))
    train(run)
    return run


def files(run) -> list[str]:
    """The files of the last step, as paths inside it."""
    step = run.workdir / "checkpoints" / "8"
    return sorted(str(p.relative_to(step)) for p in step.rglob("*") if p.is_file())


def restored(folder: Path, run):
    with jax.set_mesh(run.mesh):
        fresh, _, _ = build_state(run)
        checkpoints = Checkpoints(folder)
        try:
            got = checkpoints.restore(fresh)
        finally:
            checkpoints.close()
    assert got is not None
    return got


def copied(run, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(run.workdir / "checkpoints", tmp_path / "run" / "checkpoints"))


def same(a, b) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if how == "half" else b"")


@pytest.mark.parametrize("how", ["half", "empty"])
def test_a_step_with_a_file_cut_short_is_set_aside(run, tmp_path, how, caplog):
    """Every file of a step in turn: either the step reads as it was (the file is one that nothing
    depends on), or the step before it is used, and the damaged one kept aside."""
    good, before = restored(run.workdir / "checkpoints", run), None
    aside = []
    for number, name in enumerate(files(run)):
        folder = copied(run, tmp_path / str(number))
        damage(folder / "8" / name, how)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            state, meta = restored(folder, run)
        if int(state.step) == 8:
            same(state, good[0])
            assert meta == good[1]
            continue
        aside.append(name)
        assert int(state.step) == 4 == meta["data"]["next_index"]
        before = before or state
        same(state, before)
        assert (folder.parent / "unreadable" / "8").is_dir() and not (folder / "8").exists()
        assert "last good one, step 4" in caplog.text
    assert any("/d/" in name for name in aside)  # the arrays themselves
    assert {"state/_METADATA", "state/manifest.ocdbt", "meta/metadata"} <= set(aside)


def test_a_file_that_is_missing_is_a_damage_too(run, tmp_path):
    folder = copied(run, tmp_path)
    (folder / "8" / "state" / "manifest.ocdbt").unlink()
    assert int(restored(folder, run)[0].step) == 4


def test_nothing_readable_is_an_error_and_nothing_is_moved(run, tmp_path):
    folder = copied(run, tmp_path)
    for step in ("4", "8"):
        damage(folder / step / "state" / "manifest.ocdbt", "empty")
    with pytest.raises(ValueError, match=r"no checkpoint in .* can be read: 8 .*; 4 ") as error:
        restored(folder, run)
    assert "\n" not in str(error.value)
    assert sorted(p.name for p in folder.iterdir()) == ["4", "8"]


def test_only_the_latest_are_kept_and_those_for_good(tmp_path):
    run = make_run(tmp_path, checkpoint_every=1, keep=2, keep_every=3)
    train(run)
    assert Checkpoints(tmp_path / "checkpoints").steps() == [3, 6, 7, 8]
