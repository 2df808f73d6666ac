"""A bundle of a step that was not finite is run again by its own command; the advice of the error
that left it works."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from diffjax import choices
from diffjax.launch import cli
from diffjax.launch.settings import load_config
from diffjax.reports.run import write_report
from diffjax.runs.config import check_workdir, plain
from diffjax.train.guard import NonFiniteError
from experiments import replay
from experiments.train import train_run

CONFIG = """
from configs.common import make


def get_config(arg=None):
    return make(
        data=dict(train=dict(type="digits", split="train"), transforms=(dict(type="to_float"),)),
        model=dict(type="convnet", channels=(8,), blocks=1, feature_dim=8),
        task=dict(type="classification"),
        optim=dict(type="adam", lr=1e30),
        ema=dict(),
        train=dict(steps=4, batch_size=8, checkpoint_every=1, log_every=1),
    )
"""


@pytest.fixture(scope="module", autouse=True)
def no_ranges():
    """No rate that a config may set is as steep as this one's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choices, "outside", lambda value, bounds: None)
        yield


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("config") / "steep.py"
    path.write_text(CONFIG)
    return str(path)


@pytest.fixture(scope="module")
def stopped(config, tmp_path_factory):
    """(workdir, error) of a run that met numbers beyond float32 at its second step."""
    workdir = tmp_path_factory.mktemp("runs") / "steep"
    with pytest.raises(NonFiniteError) as error:
        train_run(config, [], workdir)
    return workdir, str(error.value)


def bundle_of(said: str) -> Path:
    return Path(said.partition("`python -m experiments.replay ")[2].partition("`")[0])


def test_the_command_of_the_error_runs_the_step_again_wherever_the_bundle_lies(
    stopped, tmp_path, monkeypatch, capsys
):
    workdir, said = stopped
    bundle = bundle_of(said)
    assert bundle == workdir / "nonfinite" / "step_00000001"
    wanted = json.loads((bundle / "report.json").read_text())["nonfinite"]
    assert wanted[0].startswith("gradient norm: overflows float32")
    moved = Path(shutil.copytree(bundle, tmp_path / "elsewhere"))
    monkeypatch.setattr(cli, "_arguments", [str(moved)])
    replay.main()
    first, *others = capsys.readouterr().out.splitlines()
    assert first == f"step 1: first not finite: {wanted[0]}"
    assert others == [f"  then {w}" for w in wanted[1:]]


def test_a_fault_that_is_not_seen_again_is_said(stopped, monkeypatch, capsys):
    monkeypatch.setattr(replay, "diagnose", lambda *given: [])
    monkeypatch.setattr(cli, "_arguments", [str(bundle_of(stopped[1]))])
    with pytest.raises(SystemExit) as exit:
        replay.main()
    assert exit.value.code == 1 and "all is finite" in capsys.readouterr().out


def test_the_advised_setting_is_taken_by_the_workdir_and_a_run_of_nothing_ends_in_an_error(
    stopped, config, tmp_path
):
    workdir = Path(shutil.copytree(stopped[0], tmp_path / "run"))
    assert "--config.train.on_nonfinite=skip" in stopped[1]
    with pytest.raises(NonFiniteError, match="3 of 4 updates were left out, more than 50%"):
        train_run(config, ["train.on_nonfinite=skip"], workdir)
    last = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["train/skipped"] == 3
    assert "updates left out" in write_report(workdir).read_text()
    # And back.
    check_workdir(plain(load_config(config, ["train.on_nonfinite=stop"])), workdir)


def damaged(bundle: Path, how: str) -> Path:
    if how == "batch":
        (bundle / "batch.npz").write_bytes((bundle / "batch.npz").read_bytes()[:100])
    elif how == "no batch":
        (bundle / "batch.npz").unlink()
    elif how == "other batch":
        np.savez(bundle / "batch.npz", image=np.zeros((2, 8, 8, 1), np.float32))
    elif how == "pickle":
        np.savez(bundle / "batch.npz", image=np.array([{}], object))
    elif how == "report":
        (bundle / "report.json").write_text("{")
    elif how == "no step":
        (bundle / "report.json").write_text('{"step": "1"}')
    elif how == "state":
        shutil.rmtree(bundle / "state")
    else:
        return bundle.parent.parent
    return bundle


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("batch", "batch.npz cannot be read"),
        ("no batch", "batch.npz cannot be read"),
        ("other batch", "but a batch of the run is"),
        ("pickle", "batch.npz cannot be read"),
        ("report", "report.json is not JSON"),
        ("no step", "names no step"),
        ("state", "holds no state"),
        ("workdir", r"no report.json\): give .*step_00000001"),
    ],
)
def test_what_is_no_whole_bundle_is_one_line(stopped, tmp_path, how, said):
    workdir = Path(shutil.copytree(stopped[0], tmp_path / "run"))
    with pytest.raises(ValueError, match=said) as error:
        replay.replay(damaged(workdir / "nonfinite" / "step_00000001", how))
    assert "\n" not in str(error.value)


def test_a_config_that_names_python_is_opened_as_a_run_is(stopped, tmp_path, monkeypatch):
    """Whatever opening a run may import, a bundle may not import more."""
    bundle = Path(shutil.copytree(bundle_of(stopped[1]), tmp_path / "bundle"))
    opened = []
    monkeypatch.setattr(replay, "open_run", lambda home: opened.append(home) or sys.exit(9))
    with pytest.raises(SystemExit):
        replay.replay(bundle)
    assert opened == [bundle]
