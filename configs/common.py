"""Parts that the configs of this folder share."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict


def make(**sections: Any) -> ConfigDict:
    """A config of the sections that every run has, and of those given.

    The sections (`diffjax/assembly/sections.py` says what each holds, and refuses any other key):
    seed, data, tokenizer, codec, embedding, conditions, guide, prior, base, model, init_from, task,
    optim, ema, mesh, train, sampling, evals, features, perceptual, clip_scorer, clip_guide,
    factor_classifier, expected.
    """
    defaults: dict[str, Any] = {
        "seed": 0,
        "mesh": {"data": -1, "fsdp": 1, "tensor": 1},
        "ema": {},
        "evals": {},
        "expected": {},
    }
    # Whole sections are replaced, never merged: a config shows all that it sets.
    return ConfigDict({**defaults, **sections})


def choose(arg: str | None, options: dict[str, Any], default: str) -> Any:
    """The option named by a config's argument (`config.py:name`)."""
    name = arg or default
    if name not in options:
        raise ValueError(f"config argument {name!r} is unknown; known: {', '.join(options)}")
    return options[name]


def no_argument(arg: str | None) -> None:
    """Refuses an argument where a config takes none."""
    if arg is not None:
        raise ValueError(f"this config takes no argument, got {arg!r}")


IMAGE_FLIP = ({"type": "random_flip"}, {"type": "to_float"})
