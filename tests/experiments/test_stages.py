"""The runs that a run rests on: planned depth first, trained before it, and by nothing else."""

import dataclasses
import json
from pathlib import Path

import pytest
from small_classifier import classifier_text

from diffjax.assembly import stages
from diffjax.assembly.stages import complete, plan
from diffjax.launch.settings import load_config
from diffjax.pretrained.clip_scorer import ClipScorerConfig
from diffjax.pretrained.codec import CodecConfig, load_codec
from diffjax.pretrained.factor_classifier import FactorClassifierConfig
from diffjax.pretrained.features import ClassifierFeatures
from diffjax.pretrained.init_from import InitFromConfig
from diffjax.pretrained.perceptual import PerceptualConfig
from diffjax.pretrained.reference import Reference
from diffjax.pretrained.text import TextTowerConfig, load_text_tower
from diffjax.runs.config import plain

CODEC = """
from configs.common import make


def get_config(arg=None):
    return make(
        data=dict(train=dict(type="digits", split="train[:40]")),
        model=dict(type="autoencoder", channels=4, channel_mult=(1, 2), blocks=1, norm_groups=2),
        perceptual=dict(config="@CLASSIFIER@"),
        task=dict(type="autoencoder"),
        optim=dict(type="adam", lr=1e-2),
        train=dict(steps=1, batch_size=8),
    )
"""
CLASSES = (CodecConfig, TextTowerConfig, ClipScorerConfig, FactorClassifierConfig,
           ClassifierFeatures, PerceptualConfig, InitFromConfig)  # fmt: skip


@pytest.fixture
def chain(tmp_path):
    """The sections of a run that rests on a codec, which rests on a classifier."""
    configs = tmp_path / "made"
    configs.mkdir()
    (configs / "classifier.py").write_text(classifier_text())
    codec = CODEC.replace("@CLASSIFIER@", str(configs / "classifier.py"))
    (configs / "codec.py").write_text(codec)
    return {
        "codec": {"config": str(configs / "codec.py")},
        "features": {"config": str(configs / "classifier.py")},
    }


def one_line(wrong, match: str) -> None:
    with pytest.raises(ValueError, match=match) as error:
        wrong()
    assert "\n" not in str(error.value)


def test_the_plan_goes_depth_first_and_names_each_run_once(chain, tmp_path):
    work = tmp_path / "runs" / "latent"
    found = plan(chain, work, True, (*stages.TASK, *stages.EVALUATION))
    assert [s.workdir.name for s in found] == ["made_classifier", "made_codec"]
    assert {s.workdir.parent for s in found} == {work.parent}
    assert found[1].describe().endswith(f"is to be trained from {tmp_path / 'made' / 'codec.py'}")
    assert not work.parent.exists()


@pytest.mark.heavy
def test_what_is_missing_is_trained_once_and_in_order(chain, tmp_path, monkeypatch, capsys):
    work, begun = tmp_path / "runs" / "latent", []
    whole = stages.train_run

    def train_run(config, home, named):
        begun.append(home.name)
        return whole(config, home, named)

    monkeypatch.setattr(stages, "train_run", train_run)
    complete(chain, work, named=True)
    assert begun == ["made_classifier", "made_codec"]
    plan = [line for line in capsys.readouterr().out.splitlines() if ", stage " in line]
    assert [line.partition(", ")[2].partition(":")[0] for line in plan] == [
        "stage 1 of 2, perceptual", "stage 2 of 2, codec",
    ]  # fmt: skip
    # Its images are at hand, and nobody needs them again.
    home = work.parent / "made_codec"
    assert json.loads((home / "latent_scale.json").read_text())
    codec = load_codec({"run": str(home)})
    assert codec.network.scale != type(codec.network)().scale
    complete(chain, work, named=True)
    assert len(begun) == 2 and not capsys.readouterr().out


def test_a_mistake_in_any_stage_shows_before_one_is_trained(chain, tmp_path):
    file = Path(chain["codec"]["config"])
    file.write_text(file.read_text().replace("lr=1e-2", "lr=-1.0"))
    one_line(lambda: complete(chain, tmp_path / "runs" / "x", named=True), r"optim.lr=-1.0 must be")
    assert not (tmp_path / "runs").exists()


def test_a_run_of_another_config_in_its_place_is_refused(chain, tmp_path):
    work = tmp_path / "runs" / "latent"
    complete({"features": chain["features"]}, work, named=True)
    changed = {**chain["features"], "overrides": ("optim.lr=0.5",)}
    one_line(
        lambda: complete({"features": changed}, work, named=True),
        r"made_classifier holds a run of another config: optim.lr was 'absent', is 0.5",
    )


def test_runs_that_rest_on_one_another_are_refused(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        section = f"init_from=dict(run='{tmp_path / other}', config='{tmp_path / other}.py'),"
        (tmp_path / f"{name}.py").write_text(classifier_text(section))
    config = plain(load_config(str(tmp_path / "a.py")))
    one_line(lambda: plan(config, tmp_path / "a", True, stages.TASK), "rests on this run itself")


def test_what_opens_a_section_trains_nothing(chain, tmp_path):
    missing = {"run": str(tmp_path / "nowhere"), "config": chain["codec"]["config"]}
    for load in (load_codec, load_text_tower):
        one_line(lambda load=load: load(missing), "nowhere holds no run: train it, or name")
    one_line(lambda: complete({"codec": {"run": "nowhere"}}, tmp_path, True), "holds no run")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("kind", CLASSES, ids=[c.section for c in CLASSES])
def test_six_sections_speak_of_runs_in_one_way(kind):
    assert issubclass(kind, Reference)
    fields = {f.name for f in dataclasses.fields(kind)}
    assert {"run", "config", "overrides", "ema", *kind.released} <= fields
    assert kind(config="a.py", overrides=("x=1",), ema="slow").origin == "a.py"
    assert kind(run="a", config="a.py").origin == "a"
    one_line(kind, f"{kind.section} needs one of run")
    one_line(lambda: kind(run="a", overrides=("x=1",)), f"{kind.section}.overrides are of a config")
    for name in kind.released:
        if name != "vgg":  # which does not come alone
            one_line(lambda n=name: kind(run="a", **{n: "b"}), f"{kind.section} needs one of run")
            one_line(lambda n=name: kind(ema="a", **{n: "b"}), f"{kind.section}.ema is not read")
