"""Seeds that draw the same texts are repeats: an interval of their mean is over texts too."""

import json

import numpy as np
import pytest
from scipy import stats

from diffjax.metrics.classification import share
from diffjax.reports.sweep import write_sweep_report
from diffjax.sweeps.intervals import paired, summarise
from diffjax.sweeps.table import read_table, to_markdown

TEXTS, SEEDS = 20, 3


def cells(rng, each=5):
    """(share by seed, root mean square error bar) of texts with chances of their own, 0.7 mean."""
    chance = rng.beta(0.7 * 1.5, 0.3 * 1.5, TEXTS)
    cluster = np.repeat(np.arange(TEXTS), each)
    hits = [rng.random(TEXTS * each) < chance[cluster] for _ in range(SEEDS)]
    got = [share(h, clusters=cluster) for h in hits]
    values = {seed: s.value for seed, s in enumerate(got)}
    return values, float(np.sqrt(np.mean([s.std**2 for s in got])))


def test_the_interval_of_a_mean_over_seeds_covers_the_share_over_texts():
    rng, covered, naive, ses, means = np.random.default_rng(0), 0, 0, [], []
    for _ in range(300):
        values, std = cells(rng)
        over_texts, over_seeds = summarise(values, std, TEXTS), summarise(values)
        covered += over_texts.low <= 0.7 <= over_texts.high
        naive += over_seeds.low <= 0.7 <= over_seeds.high
        ses.append(over_texts.std)
        means.append(over_texts.value)
    assert covered / 300 >= stats.binom.ppf(1e-3, 300, 0.94) / 300
    assert naive / 300 < 0.85
    assert 0.85 < np.sqrt(np.mean(np.square(ses))) / np.std(means) < 1.15


def test_without_texts_nothing_changes_and_one_seed_takes_students_quantile():
    values = {0: 0.5, 1: 0.7, 2: 0.6}
    assert summarise(values, 0.2) == summarise(values)
    assert summarise(values, None, 9).std == summarise(values).std
    one = summarise({0: 0.5}, 0.1, 14)
    assert one.half_width == pytest.approx(0.1 * stats.t.ppf(0.975, 13))
    # Draws that vary more than their own bars say: the seeds alone decide.
    wild = summarise({0: 0.1, 1: 0.9}, 0.01, 14)
    assert wild.std == pytest.approx(summarise({0: 0.1, 1: 0.9}).std)
    assert wild.half_width == pytest.approx(summarise({0: 0.1, 1: 0.9}).half_width)
    assert paired(values, {0: 0.4, 1: 0.7, 2: 0.5}).p is not None


def test_a_sweep_says_over_how_many_texts(tmp_path):
    (tmp_path / "cells").mkdir()
    listed = [{"id": f"c{s}", "seed": s, "assignment": {"eval.guidance": 1.0}} for s in range(2)]
    for cell, (value, fid) in zip(listed, ((0.5, 3.0), (0.52, 3.1)), strict=True):
        how = {"num_samples": 196, "num_texts": 14, "data": "x"}
        record = {
            **cell, "status": "done", "seconds": 1.0, "pictures": [],
            "values": {"objects": {"value": value, "std": 0.1, "protocol": how},
                       "fid": {"value": fid, "std": 0.1, "protocol": {"num_samples": 196}}},
        }  # fmt: skip
        (tmp_path / "cells" / f"{cell['id']}.json").write_text(json.dumps(record))
    sweep = {
        "name": "s", "run": "r", "command": "c", "axes": {"eval.guidance": [1.0]}, "seeds": [0, 1],
        "metrics": [], "baseline": {}, "cells": listed, "plots": [],
    }  # fmt: skip
    (tmp_path / "sweep.json").write_text(json.dumps(sweep))
    table = read_table(tmp_path)
    got = table.rows[0].summaries
    assert table.rows[0].texts["objects"] == 14 and got["objects"].std > 0.09
    assert table.rows[0].texts["fid"] is None and got["fid"].std == pytest.approx(0.05)
    assert "Number of texts: objects: 14" in to_markdown(table)
    assert "Number of texts: objects: 14" in write_sweep_report(tmp_path).read_text()
