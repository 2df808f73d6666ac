"""Emoji from a sentence, a step of each stage: what is missing is trained, what is drawn judged."""

import json

import pytest

from diffjax.data.emoji_font import find_font

ONE_STEP = ("train.steps=1", "train.checkpoint_every=1", "optim.warmup_steps=0")
STAGES = {
    "autoencoder": ("model.channels=8", "train.batch_size=8", "ema.slow.half_life=8"),
    "clip": ("model.image.width=8", "model.image.heads=2", "train.batch_size=16",
             "model.text.width=12", "model.text.depth=1"),
    "classifier": ("model.channels=(8,)", "train.batch_size=16"),
}  # fmt: skip
SMALL = """
from configs.latent.emoji import get_config as whole


def get_config(arg=None):
    config = whole(arg)
    stages = {{
        name: dict(
            config="configs/" + name + "/emoji.py", overrides=(*changes, *{one})
        )
        for name, changes in {stages}.items()
    }}
    config.codec = dict(stages["autoencoder"], ema="slow")
    config.conditions.caption.tower = stages["clip"]
    config.factor_classifier = stages["classifier"]
    config.model.update(channels=16, attention_levels=(), num_heads=1)
    config.sampling.update(steps=2)
    config.train.update(steps=1, batch_size=16, checkpoint_every=1)
    config.optim.warmup_steps = 0
    config.evals.samples.update(columns=1)
    config.evals.unseen.update(rows=2, columns=2, num_prompts=12, seeds=(0, 1))
    return config
"""


@pytest.mark.heavy
def test_one_command_trains_what_is_missing_and_judges_what_is_drawn(processes, tmp_path):
    try:
        find_font()
    except ValueError as error:
        pytest.skip(f"NOT TESTED: {error}")
    (tmp_path / "small.py").write_text(SMALL.format(stages=STAGES, one=ONE_STEP))
    workdir = tmp_path / "runs" / "emoji"
    done = processes.run(f"--config={tmp_path / 'small.py'}", f"--workdir={workdir}", main="train")
    assert done.code == 0, done.stderr
    assert "stage 1 of 1, factor_classifier" in done.stdout
    results = [json.loads(x) for x in (workdir / "evals.jsonl").read_text().splitlines()]
    found = {row["name"]: row for row in results if row["eval"] == "unseen"}
    for name in ("gender", "skin_tone", "role", "all", "all_low", "all_real", "copy_ratio"):
        assert name in found
    assert found["all"]["protocol"]["num_samples"] == 24
