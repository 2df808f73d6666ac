"""Two starts in one workdir: one run, whole, and the other out at once; a prerequisite is trained
by one of those who need it."""

import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments import lock, prerequisites


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
    trained, take, other = [], lock._take, [True]

    def busy(path: Path):
        if other:
            raise lock.Busy("process 7 on elsewhere")
        return take(path)

    def finish() -> None:
        (tmp_path / "checkpoints" / "60").mkdir(parents=True)
        other.clear()

    def assembly(config, workdir, named):
        choices = SimpleNamespace(steps=config.train.steps)
        return SimpleNamespace(config=config, workdir=workdir, choices=choices, tokenizer=None,
                               run=None, evaluations=lambda features: None,
                               try_evaluations=lambda evaluations: None,
                               reference=lambda name: None)  # fmt: skip

    monkeypatch.setattr(lock, "_take", busy)
    monkeypatch.setattr(lock, "AGAIN", 0.05)
    monkeypatch.setattr(prerequisites, "Assembly", assembly)
    monkeypatch.setattr(prerequisites, "check_workdir", lambda *_: None)
    monkeypatch.setattr(prerequisites, "check_state", lambda run: None)
    monkeypatch.setattr(prerequisites, "train", lambda *_: trained.append(1))
    threading.Timer(0.3, finish).start()
    prerequisites.finished_run(str(tiny), (), tmp_path)
    assert not trained
    assert capsys.readouterr().out == f"waiting for {tmp_path}: process 7 on elsewhere\n"
    (tmp_path / "checkpoints" / "60").rmdir()
    prerequisites.finished_run(str(tiny), (), tmp_path)
    assert trained == [1]
