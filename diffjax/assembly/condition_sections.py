"""The sections of conditions as they are built: what the run's tokenizer decides is filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffjax.data.tokenizer_joint import AnyTokenizer, JointTokenizer


def condition_sections(
    sections: Mapping[str, Mapping[str, Any]], tokenizer: AnyTokenizer | None
) -> dict[str, Any]:
    """A config's section `conditions`, with what it leaves open.

    Raises:
      ValueError: text that is to be learned without a tokenizer, or by another's sizes.
    """
    return {
        name: _learned(f"conditions.{name}", section, tokenizer)
        if section.get("type") == "learned_text"
        else section
        for name, section in sections.items()
    }


def _learned(
    what: str, section: Mapping[str, Any], tokenizer: AnyTokenizer | None
) -> dict[str, Any]:
    if tokenizer is None or isinstance(tokenizer, JointTokenizer):
        found = "there is none" if tokenizer is None else "those of the towers beside it are two"
        raise ValueError(
            f"{what} learns to read the run's one tokenizer, and {found}: set "
            "tokenizer=dict(type='train', vocab_size=...)"
        )
    own = section.get("encoder", {})
    end = "eos" if own.get("type") == "text" else "end"
    decided = {"vocab": tokenizer.vocab_size, "context": tokenizer.context, end: tokenizer.eot}
    null_ids = tokenizer.null_ids.tolist()
    for key, value in decided.items():
        if own.get(key, value) != value:
            raise ValueError(
                f"{what}.encoder.{key}={own[key]}, but the tokenizer says {value}: leave it out"
            )
    if section.get("null_ids", null_ids) != null_ids:
        raise ValueError(f"{what}.null_ids are the tokenizer's: leave them out")
    return {**section, "encoder": {**decided, **own}, "null_ids": null_ids}
