"""A folder of captioned scenes, and the smallest CLIP run on it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffjax.assembly.experiment import Experiment, open_run
from diffjax.data.builders import shapes
from diffjax.interop.clip import save_clip
from diffjax.models import build_model
from experiments.train import train_run

CLIP = """
from configs.common import make


def get_config(arg=None):
    return make(
        data=dict(
            train=dict(type="folder", path="@FOLDER@"),
            test=dict(type="folder", path="@FOLDER@"),
            transforms=(dict(type="tokenize"), dict(type="to_float")),
            eval_transforms=(dict(type="tokenize", pick="first"), dict(type="to_float")),
        ),
        tokenizer=dict(type="train", vocab_size=600, context=32),
        model=dict(
            type="clip",
            embed=8,
            image=dict(type="vit", width=16, depth=1, heads=2, patch=16, image_size=32),
            text=dict(width=16, depth=1, heads=2),
        ),
        task=dict(type="clip"),
        optim=dict(type="adamw", lr=1e-3, weight_decay=0.1, bounds=(("logit_scale", 0.0, 4.6),)),
        ema=dict(slow=dict(half_life=100)),
        train=dict(steps=4, batch_size=8, checkpoint_every=2, log_every=2),
    )
"""


@pytest.fixture(scope="session")
def scenes(tmp_path_factory) -> Path:
    """24 scenes of 32 pixels, with their captions."""
    folder = tmp_path_factory.mktemp("scenes")
    made = shapes.render("train", np.arange(24))
    lines = []
    for i, (image, captions) in enumerate(zip(made["image"], made["caption"], strict=True)):
        Image.fromarray(image).save(folder / f"{i:02d}.png")
        lines.append(json.dumps({"file_name": f"{i:02d}.png", "caption": list(captions)}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="session")
def clip_config(scenes, tmp_path_factory) -> Path:
    """The config file of a CLIP of a few thousand parameters."""
    path = tmp_path_factory.mktemp("config") / "clip.py"
    path.write_text(CLIP.replace("@FOLDER@", str(scenes)))
    return path


@pytest.fixture(scope="session")
def clip_run(clip_config, tmp_path_factory) -> Iterator[Path]:
    """Its run of four steps, whose checkpoint is restored once for all tests."""
    workdir = tmp_path_factory.mktemp("runs") / "clip"
    train_run(str(clip_config), [], workdir)
    trained, held = Experiment.trained, {}

    def once(self, step=None):
        if self.workdir != workdir:
            return trained(self, step)
        if step not in held:
            held[step] = trained(self, step)
        return held[step]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Experiment, "trained", once)
        yield workdir


@pytest.fixture
def model(clip_run, tmp_path) -> Path:
    """The run's weights as a folder of transformers', with its tokenizer."""
    experiment = open_run(clip_run)
    section = experiment.model
    _, state, _ = experiment.trained()
    save_clip(tmp_path / "model", section, {"params": state.params}, "huggingface")
    assert build_model(**section)
    for file in (clip_run / "tokenizer").iterdir():
        shutil.copy(file, tmp_path / "model" / file.name)
    return tmp_path / "model"
