"""Diffusion by texts that a released T5 or BERT reads: trained, and opened without its folder."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encoder_folders import write_encoder

from diffjax import runs
from diffjax.assembly.experiment import Experiment, open_run
from diffjax.interop import hub
from diffjax.interop.bert import load_bert
from diffjax.interop.t5 import load_t5
from diffjax.launch.settings import load_config
from diffjax.pretrained.pipelines import pipeline_of_run
from diffjax.pretrained.text import load_text_tower
from diffjax.runs import frozen as frozen_networks
from experiments.train import train_run

DIFFUSION = """
from configs.common import make


def get_config(arg=None):
    return make(
        data=dict(
            train=dict(type="folder", path="@FOLDER@", size=16),
            transforms=(dict(type="tokenize"), dict(type="to_float")),
            eval_transforms=(dict(type="tokenize", pick="first"), dict(type="to_float")),
        ),
        conditions=@CONDITIONS@,
        model=dict(type="dit", width=16, depth=1, heads=2, patch=4, cross_attention=True),
        task=dict(type="diffusion", schedule=dict(type="cosine"), prediction=dict(type="v")),
        optim=dict(type="adam", lr=1e-3),
        train=dict(steps=2, batch_size=8, checkpoint_every=2, log_every=2),
        sampling=dict(sampler="ddim", steps=2, guidance=2.0),
    )
"""
LOAD = {"t5": load_t5, "bert": load_bert}
PROMPTS = ["a red circle", "a big blue square above a green star"]


@pytest.fixture
def config(scenes, tmp_path):
    """Writes a config of these conditions, and gives its path."""

    def write(**conditions) -> str:
        file = tmp_path / "config.py"
        text = DIFFUSION.replace("@FOLDER@", str(scenes))
        file.write_text(text.replace("@CONDITIONS@", repr(conditions)))
        return str(file)

    return write


def by(kind: str, folder: Path, **tower) -> dict:
    """The section of a condition."""
    return dict(type="text", tower={kind: str(folder), "length": 40, **tower}, drop=0.1)


@pytest.mark.parametrize("kind", LOAD)
def test_a_run_trains_and_is_opened_without_the_folder(config, tmp_path, kind):
    folder = write_encoder(tmp_path / "encoder", kind)
    part = LOAD[kind](folder)
    words = load_text_tower({kind: str(folder), "length": 40}).tokenizer
    assert words.context == 40 and words.pad == part.section["pad"] == 0
    train_run(config(**{kind: by(kind, folder)}), [], tmp_path / "run")
    shutil.rmtree(folder)

    run = runs.open_run(tmp_path / "run")
    assert run.step == 2 and run.tokenizer == words
    held = run.variables.frozen[kind]["params"]
    for name, tree in held.items():
        jax.tree.map(np.testing.assert_array_equal, tree, part.variables["params"][name])
    assert "pool" not in held  # which the features of tokens do not need

    pipeline = pipeline_of_run(run)
    assert pipeline.tokenize is not None
    drawn = pipeline.draw({"tokens": pipeline.tokenize(PROMPTS)}, 3, np.arange(2))
    assert drawn.shape == (2, 16, 16, 3) and np.isfinite(drawn).all()
    [condition] = run.task.model.conditions
    assert condition.pad == 0
    ids = jnp.asarray(words.encode(PROMPTS))
    cond = condition.encode({}, run.variables.frozen, ids, jnp.zeros((2, 16, 16, 3)))
    np.testing.assert_array_equal(cond.context_mask, ids != 0)
    assert cond.context.shape == (2, 40, 16) and 0 < cond.context_mask.sum() < 80
    np.testing.assert_array_equal(condition.null(ids), np.tile(words.null_ids, (2, 1)))


def test_clip_beside_t5_has_ids_of_its_own(config, clip_run, tmp_path):
    """One row holds the ids of both, of which each tower reads its own; both have their null."""
    folder = write_encoder(tmp_path / "encoder", "t5")
    written = config(
        clip=dict(type="text", tower=dict(run=str(clip_run)), drop=0.1, to="vector"),
        t5=by("t5", folder),
    )
    train_run(written, [], tmp_path / "run")
    train_run(written, [], tmp_path / "run")  # which builds it as it was
    shutil.rmtree(folder)
    run = runs.open_run(tmp_path / "run")
    alone = load_text_tower({"run": str(clip_run)}).tokenizer, run.tokenizer.parts[1]
    assert run.tokenizer.parts == alone and run.tokenizer.starts == (0, 32)
    assert run.resolved.batch["tokens"].shape == (72,)
    assert pipeline_of_run(run).draw(
        {"tokens": run.tokenizer.encode(PROMPTS)}, 3, np.arange(2), batch_size=2
    ).shape == (2, 16, 16, 3)

    ids, x = jnp.asarray(run.tokenizer.encode(PROMPTS)), jnp.zeros((2, 16, 16, 3))
    frozen = run.variables.frozen
    for condition, words in zip(run.task.model.conditions, alone, strict=True):
        own = jnp.asarray(words.encode(PROMPTS))
        single = dataclasses.replace(
            condition, tower=dataclasses.replace(condition.tower, place=None)
        )
        for joint, expected in (
            (ids, own),
            (condition.null(ids), single.null(own)),
        ):
            got = condition.encode({}, frozen, joint, x)
            same = single.encode({}, frozen, expected, x)
            jax.tree.map(np.testing.assert_array_equal, got, same)
    blank = [c.null(ids) for c in run.task.model.conditions]
    np.testing.assert_array_equal(blank[0][:, 32:], ids[:, 32:])
    np.testing.assert_array_equal(blank[1][:, :32], ids[:, :32])


def test_what_fills_a_text_up_changes_nothing(tmp_path):
    """Neither the tower nor who attends to its features sees padding."""
    folder = write_encoder(tmp_path / "encoder", "t5")
    outs = []
    for length in (16, 40):
        held = load_text_tower({"t5": str(folder), "length": length})
        ids = held.tokenizer.encode(PROMPTS)
        outs.append(held.tower.network.apply(held.variables, ids)[:, :5])
    np.testing.assert_allclose(*outs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", LOAD)
def test_the_whole_text_is_one_vector(tmp_path, kind):
    folder = write_encoder(tmp_path / "encoder", kind)
    held = load_text_tower({kind: str(folder)}, pooled=True)
    assert held.tokenizer.context == 77
    ids = held.tokenizer.encode(PROMPTS)
    assert held.tower.network.apply(held.variables, ids, pooled=True).shape == (2, 16)
    shorter = load_text_tower({kind: str(folder), "skip": 1})
    assert "block_1" in held.variables["params"] and "block_1" not in shorter.variables["params"]


@pytest.mark.parametrize("kind", LOAD)
def test_the_hub_is_asked_for_the_encoder_and_its_tokenizer(tmp_path, monkeypatch, kind):
    folder, asked = write_encoder(tmp_path / "encoder", kind), []

    def download(name: str, file: str):
        assert name == "owner/name"
        asked.append(file)
        return folder / file if (folder / file).is_file() else None

    monkeypatch.setattr(hub, "_download", download)
    held = load_text_tower({kind: "owner/name"})
    assert held.fingerprint == load_text_tower({kind: str(folder)}).fingerprint
    assert asked[0] == "model.safetensors"
    assert {"config.json", "tokenizer.json", "spiece.model"} <= {*asked}


@pytest.mark.heavy
def test_large_encoders_are_named_and_not_kept_twice(config, tmp_path, monkeypatch):
    monkeypatch.setattr(frozen_networks, "LARGE", 0)
    folder, workdir = write_encoder(tmp_path / "encoder", "t5"), tmp_path / "run"
    train_run(config(caption=by("t5", folder)), [], workdir)
    network = runs.resolved.read_resolved(workdir).frozen["caption"]
    assert network.origin == {"t5": str(folder)} and network.file is None
    _, _, frozen = open_run(workdir).trained()
    opened = runs.open_run(workdir).variables.frozen
    jax.tree.map(np.testing.assert_array_equal, opened, frozen)
    write_encoder(folder, "t5", eps=1e-3, width=24)
    with pytest.raises(ValueError) as error:
        runs.open_run(workdir)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("tower", "said"),
    [
        (dict(t5="nowhere"), "nowhere: no such file or folder, and no name on the hub (owner/name"),
        (dict(t5="@", bert="@"), "tower needs one of run"),
        (dict(clip="@", length=9), "tower.length is of t5 and bert"),
        (dict(t5="@", length=1), "tower.length=1 must be at least 2"),
        (dict(t5="@", ema="slow"), "tower.ema is not read with tower.t5"),
        (dict(bert="@"), "is of a 't5' model, not of a 'bert'"),
        (dict(t5="@", skip=2), "skip=2 of them cannot be left out"),
    ],
)
def test_a_tower_that_cannot_be_is_one_line(config, tmp_path, tower, said):
    folder = write_encoder(tmp_path / "encoder", "t5")
    tower = {k: str(folder) if v == "@" else v for k, v in tower.items()}
    written = load_config(config(caption=dict(type="text", tower=tower)))
    with pytest.raises(ValueError) as error:
        Experiment(written, tmp_path / "run")
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_foreign_tokenizer_is_refused(config, tmp_path):
    folder = write_encoder(tmp_path / "encoder", "t5", vocab=20)
    with pytest.raises(ValueError, match=r"its tokenizer has .* tokens, its table 20"):
        load_text_tower({"t5": str(folder)})
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "</s>"}))
    with pytest.raises(ValueError, match="texts are padded with 1, but the encoder expects 0"):
        load_text_tower({"t5": str(folder)})
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"encoder holds neither tokenizer\.json"):
        load_text_tower({"t5": str(folder)})
