"""A run whose state cannot be held is refused before anything is computed."""

import pytest

from diffjax.assembly import outline
from diffjax.assembly.experiment import Experiment
from diffjax.launch.settings import load_config


@pytest.fixture
def run(tiny, tmp_path):
    return Experiment(load_config(str(tiny)), tmp_path / "run", named=True).run


def test_a_state_that_fits_passes(run):
    outline.check_state(run)


def test_a_state_larger_than_the_memory_is_refused_in_one_line(run, monkeypatch):
    monkeypatch.setattr(outline, "device_memory", lambda: 1000.0)
    with pytest.raises(ValueError, match=r"make the model smaller, or raise mesh\.fsdp") as error:
        outline.check_state(run)
    assert "\n" not in str(error.value)


def test_where_nobody_says_how_much_memory_there_is_nothing_is_refused(run, monkeypatch):
    monkeypatch.setattr(outline, "device_memory", lambda: None)
    outline.check_state(run)
