"""The `model` section of a run as its network is built: what the data decide is filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffjax.data.tokenizer import Tokenizer
from diffjax.models.autoencoder import Autoencoder


def model_section(
    config: Mapping[str, Any],
    batch_spec: Mapping[str, Any],
    num_classes: int,
    tokenizer: Tokenizer | None,
    codec: Autoencoder | None,
) -> dict[str, Any]:
    """The section with the image's channels, the classes, the vocabulary and the like.

    Args:
      config: its `model` and `task` are read.
      batch_spec: name -> shape and dtype of a batch's arrays.
      num_classes: of the data.
      tokenizer: of the captions; None without one.
      codec: whose latents are diffused; None for pixels.

    Raises:
      ValueError: sizes in the config that do not fit the data's.
    """
    return {**config["model"], **_decided(config, batch_spec, num_classes, tokenizer, codec)}


def _decided(
    config: Mapping[str, Any],
    batch_spec: Mapping[str, Any],
    classes: int,
    tokenizer: Tokenizer | None,
    codec: Autoencoder | None,
) -> dict[str, Any]:
    model, task = config["model"], config["task"]
    image = batch_spec["image"].shape[1:]
    if model.get("type") == "clip":
        return {} if tokenizer is None else {"text": _text(model.get("text", {}), tokenizer)}
    if model.get("type") == "vae":
        return {"image_shape": image}
    if model.get("type") == "autoencoder":
        return {"image_channels": image[-1]}
    known: dict[str, Any] = {"num_classes": task.get("num_classes", classes)}
    if 0 < known["num_classes"] < classes:
        raise ValueError(
            f"task.num_classes={known['num_classes']}, but the data have {classes} classes"
        )
    if task.get("type") == "diffusion":
        channels = codec.latent_channels if codec else image[-1]
        known["out_channels"] = channels * (2 if task.get("learned_variance") else 1)
    return {k: v for k, v in known.items() if k not in model}


def _text(given: Any, tokenizer: Tokenizer) -> Any:
    """The text tower's section; what the tokenizer decides is filled in or must agree."""
    if not isinstance(given, Mapping):
        return given  # The network says what a section is.
    section = {
        "vocab": tokenizer.vocab_size,
        "context": tokenizer.context,
        "eos": tokenizer.eot,
        **given,
    }
    if section["eos"] != tokenizer.eot:
        raise ValueError(
            f"model.text.eos={section['eos']}, but texts of the tokenizer end with {tokenizer.eot}"
        )
    if section["vocab"] < tokenizer.vocab_size or section["context"] < tokenizer.context:
        raise ValueError(
            f"model.text has vocab={section['vocab']}, context={section['context']}, but the "
            f"tokenizer {tokenizer.vocab_size} and {tokenizer.context}"
        )
    return section
