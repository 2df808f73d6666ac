"""Two starts in one workdir: one run, whole, and the other out at once; a prerequisite is trained
by one of those who need it."""

import json
import threading
import time
from pathlib import Path

import pytest

from diffjax.assembly import stages
from diffjax.launch import lock
from diffjax.launch.settings import load_config
from diffjax.runs.config import check_workdir, plain


def arguments(tiny, workdir) -> list[str]:
    short = ["--config.train.steps=24", "--config.train.checkpoint_every=8"]
    return [f"--config={tiny}", f"--workdir={workdir}", *short]


@pytest.mark.heavy
@pytest.mark.parametrize("times", [1, 10])
def test_of_two_starts_at_once_one_runs_and_one_is_out(processes, tiny, tmp_path, times):
    for number in range(times):
        workdir = tmp_path / str(number)
        pair = [processes.start(*arguments(tiny, workdir)) for _ in range(2)]
        begun, ended = time.monotonic(), {}
        while len(ended) < 2:
            ended |= {i: time.monotonic() - begun for i in (0, 1)
                      if i not in ended and pair[i].ended}  # fmt: skip
            time.sleep(0.02)
        outcomes = [process.wait() for process in pair]
        assert sorted(o.code for o in outcomes) == [0, 2], outcomes
        out = [o.code for o in outcomes].index(2)
        assert ended[out] < 10
        assert f"{workdir} is in use by another run: process {pair[1 - out].pid} on" in (
            outcomes[out].error
        )
        records = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
        assert [r["step"] for r in records] == [4, 8, 12, 16, 20, 24]
        assert (workdir / "checkpoints" / "24" / "digests.sha256").exists()
        assert not (workdir / ".lock").exists() and not (workdir / "unreadable").exists()


def test_a_prerequisite_that_another_run_trains_is_waited_for_and_used(
    tiny, tmp_path, monkeypatch, capsys
):
    """The other holds the lock as another process would, and finishes meanwhile."""
    trained, take, other, home = [], lock._take, [True], tmp_path / "first"
    config = {"init_from": {"run": str(home), "config": str(tiny)}}

    def busy(path: Path):
        if other:
            raise lock.Busy("process 7 on elsewhere")
        return take(path)

    def finish() -> None:
        (home / "checkpoints" / "60").mkdir(parents=True)
        check_workdir(plain(load_config(str(tiny))), home)
        other.clear()

    monkeypatch.setattr(lock, "_take", busy)
    monkeypatch.setattr(lock, "AGAIN", 0.05)
    monkeypatch.setattr(stages, "record", lambda workdir: None)
    monkeypatch.setattr(stages, "train_run", lambda *_: trained.append(1))
    threading.Timer(0.3, finish).start()
    stages.complete(config, tmp_path / "run", named=True)
    assert not trained
    lines = capsys.readouterr().out.splitlines()
    plan = f"{tmp_path / 'run'}, stage 1 of 1, init_from: {home} is to be trained from {tiny}"
    assert lines == [plan, f"waiting for {home}: process 7 on elsewhere"]
    (home / "checkpoints" / "60").rmdir()
    stages.complete(config, tmp_path / "run", named=True)
    assert trained == [1]
