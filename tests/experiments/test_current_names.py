"""What earlier runs and sweeps have recorded under other names is read under today's."""

import json

import pytest

from diffjax.reports.run import write_report
from diffjax.reports.sweep import write_sweep_report
from diffjax.results import RENAMED, Result, current_name, protocol
from diffjax.runs.records import read_run
from diffjax.sweeps.grid import AxisPlot, Sweep, make_cells, read_cell, run_grid, save_sweep
from diffjax.sweeps.table import read_table, to_csv

HOW = protocol(num_samples=10)
BACK = {new: old for old, new in RENAMED.items()}


def test_names_of_today_stay_as_they_are():
    for old, new in RENAMED.items():
        assert current_name(old) == new == current_name(new)
        assert current_name(f"generation/{old}") == f"generation/{new}"
    assert current_name("frechet") == "frechet"


@pytest.fixture
def run(tmp_path):
    """A run, and the same with its metrics as they were once called."""

    def make(folder: str, names: dict[str, str]):
        workdir = tmp_path / folder
        workdir.mkdir()
        name = names.get("class_accuracy", "class_accuracy")
        config = {"expected": {f"generation/{name}": [0.9, None]}}
        (workdir / "config.json").write_text(json.dumps(config))
        lines = [
            {"step": step, "eval": "generation", "name": names.get(name, name), "ema": None,
             "value": step / 10, "std": None, "protocol": HOW}
            for step in (4, 8)
            for name in RENAMED.values()
        ]  # fmt: skip
        (workdir / "evals.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return workdir

    return make


def test_a_run_is_read_under_todays_names(run):
    old, new = run("old", BACK), run("new", {})
    assert "agreement" in (old / "evals.jsonl").read_text() + (old / "config.json").read_text()
    assert read_run(old).results == read_run(new).results
    assert read_run(old).config == read_run(new).config
    pages = [write_report(workdir).read_text() for workdir in (old, new)]
    assert pages[0].replace("old", "new") == pages[1].replace("old", "new")


def test_a_sweep_is_read_under_todays_names_and_not_measured_again(tmp_path):
    metrics = ("class_accuracy", "class_accuracy_low")
    axes = {"eval.steps": [5, 10]}
    sweep = Sweep(
        "s", "r", axes, (0, 1), metrics, plots=(AxisPlot("class_accuracy", "eval.steps"),)
    )
    cells = make_cells(sweep, "base")

    def measure(cell):
        for name in metrics:
            yield Result(name, cell.settings["eval.steps"] / 10 - cell.seed / 100, 0.1, HOW)

    run_grid(cells, measure, tmp_path)
    save_sweep(sweep, cells, tmp_path)
    table, page = read_table(tmp_path), write_sweep_report(tmp_path).read_text()
    assert len(table.metrics) == 2 and "class_accuracy by steps" in page
    for path in (tmp_path / "sweep.json", *(tmp_path / "cells").glob("*.json")):
        text = path.read_text()
        assert "class_accuracy" in text
        path.write_text(text.replace("class_accuracy", "agreement"))
    assert to_csv(read_table(tmp_path)) == to_csv(table)
    assert write_sweep_report(tmp_path).read_text() == page
    assert all(read_cell(tmp_path / "cells", cell.id) for cell in cells)
    outcome = run_grid(cells, lambda cell: pytest.fail("measured again"), tmp_path)
    assert outcome.skipped == 4
