"""The papers' tables in small: each study's canary, whole, and what it claims of the digits."""

from dataclasses import replace
from pathlib import Path

import pytest

from diffjax.sweeps.study import Study, load_study
from diffjax.sweeps.table import read_table
from experiments.sweep import run_sweep

STUDIES = ("sampler_steps", "edm_sampler", "guidance_scale", "dit_guidance")


def in_folder(study: Study, runs: Path, seed: int = 0) -> Study:
    """The study with its run in `runs`, trained there where another has not, and of one seed: the
    bands were measured over three."""
    run = str(runs / Path(study.sweep.run).name)
    return replace(study, sweep=replace(study.sweep, run=run, seeds=(seed,)))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.mark.parametrize("name", STUDIES)
def test_a_canary_claims_something_on_rows_that_it_has(name):
    """Without a run: every claim reads rows that the sweep will have, and can fail."""
    study = load_study(f"experiments/studies/{name}")
    assert study.config is not None and len(study.sweep.seeds) >= 3
    assert len(study.claims) >= 3
    assert all(claim.low < claim.high for claim in study.claims)


@pytest.mark.heavy
@pytest.mark.parametrize("name", STUDIES)
def test_a_canary_shows_what_the_paper_shows(name, runs, tmp_path):
    study = in_folder(load_study(f"experiments/studies/{name}"), runs)
    assert not run_sweep(study, tmp_path).failed
    table = read_table(tmp_path)
    broken = {c.label: c.value(table) for c in study.claims if not c.holds(table)}
    assert not broken
