"""A run that is opened executes no file but the installed configs: not what its record names."""

import contextlib
import json
import os
from pathlib import Path

import pytest
from small_classifier import classifier_text

from diffjax.assembly.experiment import Experiment, open_run
from diffjax.assembly.stages import complete, opened
from diffjax.launch.settings import ROOT, load_config, run_name
from diffjax.pretrained.clip_scorer import make_scorers
from diffjax.pretrained.features import features_of_run
from diffjax.pretrained.reference import installed
from diffjax.reports.run import write_report
from diffjax.runs.config import plain, read_config
from experiments.train import train_run

PLANT = f"""
from pathlib import Path

Path(__file__).with_name("mark").touch()
{classifier_text()}
"""
AUTOENCODER = dict(
    model=dict(type="autoencoder", channels=4, channel_mult=(1,), blocks=1, norm_groups=2),
    task=dict(type="autoencoder"),
)
SECTIONS = {
    "codec": dict(run="@RUN@", config="@PLANT@"),
    "conditions.caption.tower": dict(run="@RUN@", config="@PLANT@"),
    "clip_scorer": dict(run="@RUN@", config="@PLANT@"),
    "clip_guide": dict(run="@RUN@", config="@PLANT@"),
    "features": dict(config="@PLANT@"),
    "factor_classifier": dict(config="@PLANT@"),
    "perceptual": dict(config="@PLANT@"),
}
OPENERS = {
    "open": open_run,
    "evaluate": lambda workdir: scorers_of(Experiment(open_config(workdir), workdir)),
    "fid": lambda workdir: features_of_run(opened(workdir)),
    "complete": lambda workdir: complete(read_config(workdir), workdir, named=False),
    "report": write_report,
}


def scorers_of(experiment: Experiment):
    assert experiment.clip_guide is None
    return make_scorers(experiment.reference, experiment.mesh)


def open_config(workdir: Path):
    return load_config(str(workdir.parent / "same.py"))


@pytest.fixture
def planted(tmp_path):
    """Makes a run that names the plant in one of its sections, and gives the mark's path."""
    plant = tmp_path / "elsewhere" / "plant.py"
    plant.parent.mkdir()
    plant.write_text(PLANT)

    def make(name: str, named: str = str(plant)) -> tuple[Path, Path]:
        config = load_config(str(_write(tmp_path / "plain.py", classifier_text()))).to_dict()
        if name == "perceptual":
            config |= AUTOENCODER
        places = {"@PLANT@": named, "@RUN@": str(tmp_path / "nowhere")}
        section = {k: places[v] for k, v in SECTIONS[name].items()}
        tower = name.startswith("conditions")
        config |= (
            {"conditions": {"caption": dict(type="text", tower=section)}}
            if tower
            else {name: section}
        )
        workdir = tmp_path / "run"
        workdir.mkdir(exist_ok=True)
        (workdir / "config.json").write_text(json.dumps(config))
        source = f"from ml_collections import ConfigDict\n\ndef get_config(arg=None):\n    return ConfigDict({config!r})\n"  # noqa: E501
        _write(tmp_path / "same.py", source)
        return workdir, plant.with_name("mark")

    return make


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("name", SECTIONS)
def test_opening_a_run_executes_nothing_that_its_record_names(planted, name, opener):
    workdir, mark = planted(name)
    try:
        OPENERS[opener](workdir)
    except ValueError as error:
        if str(workdir) + "/config.json names" in str(error):
            assert f"{name}.config=" in str(error) and "experiments.train --config=" in str(error)
    assert not mark.exists()


@pytest.mark.parametrize("name", SECTIONS)
def test_a_config_that_the_user_names_may_name_others(planted, name):
    """The law above would hold of a program that imports nothing at all."""
    workdir, mark = planted(name)
    with contextlib.suppress(ValueError):  # It is a classifier, and no codec.
        complete(plain(open_config(workdir)), workdir, named=True)
    assert mark.exists()


@pytest.mark.parametrize(
    "name",
    ["configs/../{plant}", "{plant}", "configs/link.py", "/etc/hosts", "configs", "", ".",
     "configs/classifier", "configs/common.py/../../{plant}"],
)  # fmt: skip
def test_what_lies_elsewhere_is_not_installed(tmp_path, monkeypatch, name):
    home = tmp_path / "site"
    (home / "configs").mkdir(parents=True)
    plant = _write(tmp_path / "plant.py", PLANT)
    os.symlink(plant, home / "configs" / "link.py")
    monkeypatch.setattr("diffjax.pretrained.reference.ROOT", home)
    monkeypatch.chdir(tmp_path)
    assert installed(name.format(plant=os.path.relpath(plant, home))) is None


def test_the_working_directory_does_not_stand_before_the_installed_configs(planted, monkeypatch):
    """Neither for what a record names, nor for what the installed config names in its turn."""
    name = "configs/classifier/digits.py"
    workdir, _ = planted("features", named=name)
    shadow = workdir.parent / name
    shadow.parent.mkdir(parents=True)
    shadow.write_text(PLANT)
    monkeypatch.chdir(workdir.parent)
    section = open_run(workdir).reference("features")
    run = workdir.parent / "classifier_digits"
    assert section == {"config": str(ROOT / name), "run": str(run)}
    assert installed(f"{name}:arg") == f"{ROOT / name}:arg"
    load_config(section["config"])
    assert not shadow.with_name("mark").exists()
    load_config(name)
    assert shadow.with_name("mark").exists()  # whoever names it on the command line gets it


@pytest.mark.parametrize("name", ["features", "perceptual"])
def test_the_run_of_a_config_is_opened_in_its_place(planted, tmp_path, name):
    """An own config's classifier, trained beside the run, goes on being measured with."""
    workdir, mark = planted(name)
    classifier = workdir.parent / run_name(str(mark.with_name("plant.py")))
    train_run(str(_write(tmp_path / "own.py", classifier_text())), [], classifier)
    experiment = open_run(workdir)
    assert experiment.reference(name) == {"run": str(classifier)}
    if name == "features":
        assert scorers_of(experiment)["features"].name == classifier.name
    else:
        assert experiment.seen[0].backbone.channels == (4,)
        assert set(experiment.seen[1].load()["params"]["perceptual"]) == {"backbone"}
    assert not mark.exists()
