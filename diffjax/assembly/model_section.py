"""The sections of network and task as they are built: what data, tokenizer and conditions decide is
filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffjax.choices import unknown
from diffjax.data.sources import factor_words
from diffjax.data.tokenizer_joint import AnyTokenizer
from diffjax.denoisers.conditions.base import Condition, inputs_of
from diffjax.denoisers.spaces import Space
from diffjax.pretrained.codes import FittedCodes


def model_section(
    config: Mapping[str, Any],
    task: Mapping[str, Any],
    spec: Mapping[str, Any],
    classes: int,
    tokenizer: AnyTokenizer | None,
    conditions: tuple[Condition, ...],
    space: Space,
    codes: FittedCodes | None = None,
) -> dict[str, Any]:
    """A config's section `model`, with what it leaves open.

    Args:
      task: the section of its task, see `task_section`.
      spec: the shapes of one batch.
      classes: of the data.
      tokenizer: of the run.
      conditions, space: of a diffusion task or an autoregressive prior.
      codes: of the latter.

    Raises:
      ValueError: a section that contradicts the data or the tokenizer.
    """
    model = config["model"]
    if model.get("type") == "clip":
        image = model.get("image", {})
        if task.get("noise") and isinstance(image, Mapping) and image.get("type") == "vit":
            model = {**model, "image": {"noised": True, **image}}
        return model if tokenizer is None else {**model, "text": _text(model, tokenizer)}
    if model.get("type") == "vae":
        return {**model, "image_shape": spec["image"].shape[1:]}
    if model.get("type") == "autoencoder":
        return {**model, "image_channels": spec["image"].shape[-1]}
    if codes is not None:
        known = _sequence(inputs_of(conditions, spec, space), "prior_ar")
        return {**known, "components": codes.components, **model}
    if task.get("type") == "diffusion":
        known = inputs_of(conditions, spec, space)
        length = known.pop("context_length", 0)
        if model.get("type") == "prior":
            known = _sequence({**known, "context_length": length}, "prior")
        known["out_channels"] = space.shape[-1] * (2 if task.get("learned_variance") else 1)
        return {**known, **model}
    if task.get("type") == "factors":
        return {"num_classes": sum(map(len, task["words"])), **model}
    known = {"num_classes": task.get("num_classes", classes)}
    if 0 < known["num_classes"] < classes:
        raise ValueError(
            f"task.num_classes={known['num_classes']}, but the data have {classes} classes"
        )
    return {**known, **model}


def _sequence(known: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The inputs of a prior, which is a transformer over a sequence."""
    rest = {k: v for k, v in known.items() if k != "num_classes"}
    if known["num_classes"]:
        raise ValueError(
            f"model {kind} reads no class table: set to='vector' in the class condition"
        )
    return {"vector_dim": 0, "context_length": 0, **rest}


def task_section(section: Mapping[str, Any], data: str) -> Mapping[str, Any]:
    """A config's section `task`; where it names factors, with their words in the set `data`.

    Raises:
      ValueError: a factor that the data have not.
    """
    if section.get("type") != "factors":
        return section
    known, factors = factor_words(data), section.get("factors", ())
    for name in factors:
        if name not in known:
            raise unknown(f"task.factors: factor of {data}", name, known)
    return {**section, "words": tuple(known[name] for name in factors)}


def _text(model: Mapping[str, Any], tokenizer: AnyTokenizer) -> Any:
    """The text tower's section; what the tokenizer decides is filled in or must agree."""
    section = {
        "vocab": tokenizer.vocab_size,
        "context": tokenizer.context,
        "eos": tokenizer.eot,
    }
    own = model.get("text", {})
    if not isinstance(own, Mapping):
        return own  # The network says what a section is.
    section |= own
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
