"""The sweep engine: resumable cell by cell, paired by seed, honest about failures."""

import csv
import io
import json
from dataclasses import dataclass, field

import numpy as np
import pytest
from scipy import stats

from diffjax.reports.sweep import write_sweep_report
from diffjax.sweeps.grid import AxisPlot, Choice, Sweep, TradeOff, make_cells, run_grid, save_sweep
from diffjax.sweeps.intervals import paired, summarise
from diffjax.sweeps.table import number, read_table, to_csv, to_markdown, with_error


@dataclass
class Value:
    name: str
    value: float
    std: float | None = None
    protocol: dict = field(default_factory=dict)


@dataclass
class Plate:
    name: str
    image: np.ndarray
    caption: str = ""


SWEEP = Sweep(
    name="steps and samplers",
    run="runs/digits",
    axes={"eval.sampler": ["ddim", "ddpm"], "eval.steps": [5, 10, 20]},
    seeds=(0, 1, 2),
    baseline={"eval.sampler": "ddim"},
    plots=(
        AxisPlot("frechet", "eval.steps", lines="eval.sampler"),
        AxisPlot("frechet", "eval.steps", panels="eval.sampler"),
        TradeOff("recall", "precision", along="eval.steps", lines="eval.sampler"),
    ),
)


def measure(cell):
    steps, slow = cell.settings["eval.steps"], cell.settings["eval.sampler"] == "ddpm"
    noise = np.random.default_rng(cell.seed).normal()
    own = np.random.default_rng([cell.seed, steps, slow]).normal()
    protocol = {"n": 100, "steps": steps, "seed": cell.seed}
    yield Value("frechet", 1 + 10 / steps + slow + noise + 0.01 * own, 0.1, protocol)
    yield Value("precision", 0.9 - 1 / steps, None, protocol)
    yield Value("recall", 0.5 + 1 / steps, None, protocol)
    yield Plate("grid", np.full((8, 8, 3), 10 * steps, np.uint8), "samples")


def run(workdir, run_cell=measure, sweep=SWEEP, fingerprint="base"):
    cells = make_cells(sweep, fingerprint)
    save_sweep(sweep, cells, workdir)
    return run_grid(cells, run_cell, workdir)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("survivors", [0, 1, 7, 17])
def test_a_killed_sweep_reruns_only_what_is_missing_and_ends_in_the_same_table(tmp_path, survivors):
    calls = []

    def killed(cell):
        calls.append(cell.id)
        for record in measure(cell):
            yield record
            if len(calls) > survivors:
                raise Killed

    with pytest.raises(Killed):
        run(tmp_path / "killed", killed)
    finished = calls[:survivors]
    again = []

    def counted(cell):
        again.append(cell.id)
        return measure(cell)

    outcome = run(tmp_path / "killed", counted)
    run(tmp_path / "whole")
    assert not set(again) & set(finished) and len(again) + len(finished) == 18
    assert (outcome.skipped, outcome.exit_code) == (survivors, 0)
    tables = [to_csv(read_table(tmp_path / name)) for name in ("killed", "whole")]
    assert tables[0] == tables[1] and tables[0].count("\n") == 7


def test_a_torn_cell_is_computed_again(tmp_path):
    run(tmp_path)
    path = sorted((tmp_path / "cells").glob("*.json"))[3]
    whole = json.loads(path.read_text())
    path.write_bytes(path.read_bytes()[:-30])
    again = []

    def counted(cell):
        again.append(cell.id)
        return measure(cell)

    run(tmp_path, counted)
    assert again == [path.stem]
    assert json.loads(path.read_text())["values"] == whole["values"]


def test_a_failed_cell_costs_no_other_and_is_tried_again(tmp_path):
    def fails(cell):
        yield from measure(cell)
        if str(cell) == "sampler=ddpm steps=10 seed=1":
            raise FloatingPointError("not\nfinite")

    outcome = run(tmp_path, fails)
    assert outcome.exit_code == 1
    assert outcome.failed == {
        "sampler=ddpm steps=10 seed=1": "FloatingPointError: not finite",
    }
    table = read_table(tmp_path)
    row = table.find({"eval.sampler": "ddpm", "eval.steps": 10})
    assert row is not None and row.summaries["frechet"].count == 2  # the failed seed is left out
    assert row.differences["frechet"].count == 2
    assert "not finite" in write_sweep_report(tmp_path).read_text()
    assert run(tmp_path).exit_code == 0 and not read_table(tmp_path).failed


def test_cell_ids_depend_on_base_assignment_and_seed_alone():
    cells = make_cells(SWEEP, "base")
    assert len({cell.id for cell in cells}) == len(cells) == 18
    turned = Sweep("other", "x", dict(reversed(SWEEP.axes.items())), SWEEP.seeds)
    assert {c.id for c in make_cells(turned, "base")} == {c.id for c in cells}
    assert not {c.id for c in make_cells(SWEEP, "another")} & {c.id for c in cells}
    grown = Sweep("grown", "x", {**SWEEP.axes, "eval.steps": [5, 10, 20, 50]}, SWEEP.seeds)
    assert {c.id for c in cells} < {c.id for c in make_cells(grown, "base")}
    assert [c.seed for c in cells[:4]] == [0, 1, 2, 0]


def test_a_grown_sweep_keeps_its_cells_and_another_base_uses_none_of_them(tmp_path):
    run(tmp_path)
    grown = Sweep("grown", "x", {**SWEEP.axes, "eval.steps": [5, 10, 20, 50]}, SWEEP.seeds)
    assert run(tmp_path, sweep=grown).skipped == 18
    assert run(tmp_path, fingerprint="another").skipped == 0
    assert len(read_table(tmp_path).rows) == 6


def test_a_choice_sets_several_keys_under_one_label():
    ddim = Choice("DDIM", {"eval.sampler": "ddim", "eval.eta": 0.0})
    (cell,) = make_cells(Sweep("s", "x", {"method": [ddim]}), "base")
    assert cell.assignment == {"method": "DDIM"}
    assert cell.settings == {"eval.sampler": "ddim", "eval.eta": 0.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"axes": {}}, "at least one axis"),
        ({"axes": {"a": []}}, "axis a"),
        ({"axes": {"a": [1, 1]}}, "repeated"),
        ({"axes": {"a": [object()]}}, "numbers, strings or lists"),
        ({"baseline": {"eval.sampler": "euler"}}, r"choose from \['ddim', 'ddpm'\]"),
        ({"baseline": {"sampler": "ddim"}}, r"axes are \['eval.sampler'"),
        ({"plots": (AxisPlot("frechet", "eval.eta"),)}, "axis eval.eta"),
    ],
)
def test_a_bad_sweep_is_refused_in_one_line(change, message):
    with pytest.raises(ValueError, match=message) as caught:
        make_cells(Sweep(**{**SWEEP.__dict__, **change}), "base")
    assert "\n" not in str(caught.value)


def test_intervals_agree_with_scipy():
    x, y = np.random.default_rng(0).normal([[1.0], [1.3]], size=(2, 7))
    summary = summarise(dict(enumerate(x)))
    reference = stats.ttest_1samp(x, 0).confidence_interval(0.95)
    assert (summary.low, summary.high) == pytest.approx((reference.low, reference.high))
    assert summary.std == pytest.approx(stats.sem(x))
    difference = paired(dict(enumerate(x)), dict(enumerate(y)))
    reference = stats.ttest_rel(x, y)
    interval = reference.confidence_interval(0.95)
    assert difference.p == pytest.approx(reference.pvalue)
    assert (difference.low, difference.high) == pytest.approx((interval.low, interval.high))


def test_pairing_uses_common_seeds_only_and_undoes_what_a_seed_does():
    noise = dict(enumerate(np.random.default_rng(1).normal(size=6)))
    shifted = {seed: value + 0.1 for seed, value in noise.items() if seed != 2} | {9: 100.0}
    difference = paired(shifted, noise)
    assert difference.count == 5 and difference.value == pytest.approx(0.1)
    assert difference.high - difference.low < 1e-9 < summarise(noise).half_width
    assert paired({1: 0.0}, {2: 0.0}) is None and summarise({}) is None


def test_one_seed_takes_the_error_bar_of_the_metric():
    summary = summarise({0: 5.0}, std=0.5)
    assert summary.half_width == pytest.approx(0.98, abs=1e-3)
    assert summarise({0: 5.0}).high is None


def test_the_table_compares_each_cell_with_its_own_baseline(tmp_path):
    run(tmp_path)
    table = read_table(tmp_path)
    for row in table.rows:
        difference = row.differences["frechet"]
        assert row.is_baseline == (row.assignment["eval.sampler"] == "ddim")
        if row.is_baseline:
            assert difference is None
        else:  # ddpm is one above ddim at the same steps; the seeds' common noise cancels
            assert difference.value == pytest.approx(1.0, abs=0.05)
            assert difference.half_width < row.summaries["frechet"].half_width / 3
    assert table.differing == {"steps": [5, 10, 20]}


def test_markdown_and_csv_hold_the_same_rows(tmp_path):
    run(tmp_path)
    table = read_table(tmp_path)
    lines = to_markdown(table).splitlines()
    assert lines[0].startswith("| sampler | steps | frechet | Δ frechet |")
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert [r["eval.steps"] for r in rows] == ["5", "10", "20"] * 2
    for row, read in zip(table.rows, rows, strict=True):
        assert float(read["frechet:mean"]) == row.summaries["frechet"].value
        assert with_error(row.summaries["frechet"]) in "\n".join(lines)


def test_a_value_that_is_not_finite_lowers_n_instead_of_the_mean(tmp_path):
    def diverges(cell):
        yield Value("frechet", float("nan") if cell.seed == 1 else 2.0)

    run(tmp_path, diverges)
    assert all(row.summaries["frechet"].count == 2 for row in read_table(tmp_path).rows)
    write_sweep_report(tmp_path)


def test_numbers_keep_their_significant_digits():
    assert [number(v) for v in (0.98765, 12.3456, 0.00123456, 12345.6, None)] == [
        "0.9877", "12.35", "0.001235", "12,346", "–",
    ]  # fmt: skip
    assert with_error(summarise({0: 1.0, 1: 1.002, 2: 0.998})) == "1.0000 ± 0.0050"


def test_the_page_of_a_sweep_shows_plots_tables_and_pictures(tmp_path):
    run(tmp_path)
    text = write_sweep_report(tmp_path).read_text()
    assert text.count("<svg") == 1 + 2 + 1  # one line plot, one panel per sampler, one trade-off
    assert text.count('src="data:image/png') == 6  # the first seed's picture of each setting
    assert "http" not in text
    assert (tmp_path / "table.md").exists() and (tmp_path / "table.csv").exists()


def test_a_half_finished_sweep_has_a_page_too(tmp_path):
    cells = make_cells(SWEEP, "base")
    save_sweep(SWEEP, cells, tmp_path)
    assert "18 to run" in write_sweep_report(tmp_path).read_text()
    run_grid(cells[:4], measure, tmp_path)
    assert "14 to run" in write_sweep_report(tmp_path).read_text()


def test_a_folder_without_a_sweep_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"no sweep\.json"):
        write_sweep_report(tmp_path)
