"""The README's commands, as written but for their size, in one folder and in their order."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffjax.data.emoji_font import find_font

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
# Blocks and the table's rows, in the order in which a user meets them.
COMMANDS = list(
    dict.fromkeys(
        line.strip()
        for block, row in re.findall(
            r"^```bash\n(.*?)^```|^\| `(python -m [^`\n]*)`", README, re.S | re.M
        )
        for line in (block or row).splitlines()
        if line.strip()
    )
)
# Small enough to run one after another: what a command computes is changed, not which command.
SMALL = (
    "--config.train.steps=4",
    "--config.train.log_every=2",
    "--config.train.checkpoint_every=4",
    "--config.train.batch_size=16",
)
TOWER = "conditions.caption.tower"
TINY_UNET = ("--config.model.channels=8", "--config.evals.generation.num_samples=40")


def small(command: str) -> list[str]:
    """The command's arguments with its size reduced."""
    words = shlex.split(command)
    env = [w for w in words if re.match(r"^[A-Z_]+=", w)]
    rest = words[len(env) :]
    if "configs/classifier/digits.py" in command:
        return words  # The first run has trained it as it is written.
    if "experiments.train" in rest:
        rest += [*SMALL]
        if "digits_dit" in command:
            rest += ["--config.model.width=16", "--config.evals.generation.num_samples=40"]
        elif "configs/vae/" in command:
            rest += ["--config.evals.generation.num_samples=40"]
        elif "folder.py" in command:
            rest += ["--config.model.channels=8", "--config.model.norm_groups=4"]
        elif re.search(r"configs/(ddpm|edm)/digits\.py", command):
            rest += list(TINY_UNET)
        elif "configs/autoencoder/" in command:
            rest += [f"--config.evals.{name}.num_images=60" for name in ("test", "unseen")]
        elif "configs/prior/" in command:
            rest += [f"--config.{name}.config=None" for name in ("embedding", TOWER)]
            rest += [f"--config.evals.{name}.limit=20" for name in ("test", "unseen")]
        elif "configs/unclip/" in command:
            named = ("codec", "prior", "conditions.clip.tower", TOWER, "clip_scorer")
            rest += [f"--config.{name}.config=None" for name in named]
            kinds = ("one", "two", "unseen", "unseen_two")
            rest += [f"--config.evals.{kind}.num_prompts=16" for kind in kinds]
            rest += ["--config.evals.changed.count=8", "--config.evals.changed.pred_kw.steps=4"]
        elif "configs/latent/" in command:
            # It rests on the small runs above, not on runs of the config files as they are.
            named = ("codec", TOWER, "clip_scorer")
            rest += [f"--config.{name}.config=None" for name in named]
            kinds = ("one", "two", "unseen", "unseen_two")
            rest += [f"--config.evals.{kind}.num_prompts=16" for kind in kinds]
        elif "configs/clip/" in rest[3]:
            rest += ["--config.evals.probe.limit=100", "--config.evals.probe.iterations=3"]
    elif "text_guidance" in command:
        rest += ["--set=num_prompts=16"]
    elif "experiments.sweep" in rest:
        rest += ["--set=num_samples=20"]
    elif "experiments.evaluate" in rest:
        rest = [w.replace("num_samples=500", "num_samples=40") for w in rest]
    elif "experiments.studies.spiral" in rest:
        rest += ["--config.train.steps=20"]
    return [*env, *rest]


def font() -> bool:
    """Whether a font to draw emoji from is found; said where there is none."""
    try:
        return find_font().exists()
    except ValueError as error:
        warnings.warn(f"NOT TESTED: {error}", stacklevel=1)
        return False


def test_commands_are_found():
    assert len(COMMANDS) > 12
    assert COMMANDS[1].startswith("python -m experiments.train --config=configs/ddpm/digits.py")
    kinds = ("pip install", "python -m experiments.", "python -m pytest", "XLA_FLAGS")
    assert all(c.startswith(kinds) for c in COMMANDS), COMMANDS


def test_installs_name_extras_that_exist():
    setup = (ROOT / "setup.py").read_text()
    for command in COMMANDS:
        for extra in re.findall(r"\.\[(\w+)\]", command):
            assert f'"{extra}":' in setup, command


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.heavy
def test_every_command_runs(tmp_path):
    for label in ("cat", "dog"):
        folder = tmp_path / "my_images" / label
        folder.mkdir(parents=True)
        for i in range(12):
            pixels = np.random.default_rng(i).integers(0, 255, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    for command in COMMANDS:
        if command.startswith(("pip", "python -m pytest")) or ("emoji" in command and not font()):
            continue
        words = small(command)
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        while re.match(r"^[A-Z_]+=", words[0]):
            name, _, value = words.pop(0).partition("=")
            env[name] = value
        words[0] = sys.executable
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    assert (tmp_path / "runs/digits/report.html").stat().st_size > 10_000
