"""The frozen networks that a diffusion run rests on: its codec and its text tower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffjax.tasks.latents import Latents
from diffjax.train.start import Given, Start
from experiments.codec import Codec, load_codec
from experiments.start import recorded
from experiments.text_towers import TextTower, load_text_tower

NAMES = ("codec", "text")


@dataclass(frozen=True, eq=False)
class Frozen:
    """Attributes:
    codec: config section `codec`, loaded; None without one.
    text: config section `text`, loaded; None without one.
    origins: section -> where it comes from, for messages.
    """

    codec: Codec | None
    text: TextTower | None
    origins: Mapping[str, str]

    def towers(self, codec_of_data: str | None) -> dict[str, Any]:
        """What `make_task` is given; `codec_of_data` is the `DatasetInfo.codec` of the batches.

        Raises:
          ValueError: data that hold another codec's moments, or moments and no codec.
        """
        own = None if self.codec is None else self.codec.fingerprint
        if codec_of_data not in (None, own):
            raise ValueError(
                f"the data hold latents of the codec {codec_of_data}, but the config's codec "
                f"section is {own or 'missing'}: name the codec that they were made with"
            )
        towers: dict[str, Any] = {} if self.text is None else {"text": self.text.condition}
        if self.codec is None:
            return towers
        return {**towers, "latents": Latents(self.codec.network, codec_of_data is not None)}

    def start(self, workdir: Path) -> Start | None:
        """Gives the frozen networks their weights; None where there are none."""
        held = {n: getattr(self, n) for n in NAMES if getattr(self, n) is not None}
        if not held:
            return None

        def load() -> Given:
            for name, part in held.items():
                file = workdir / f"{name}.json"
                recorded(file, name, {"origin": self.origins[name]}, part.variables)
            return {"params": {name: part.variables for name, part in held.items()}}

        return Start(load, " and ".join(self.origins[n] for n in held), tuple(held))


def load_frozen(config: Mapping[str, Any]) -> Frozen:
    """The networks of a config's `codec` and `text` sections.

    Raises:
      ValueError: whatever `load_codec` and `load_text_tower` refuse.
    """
    codec = text = None
    if config.get("codec"):
        codec = load_codec(config["codec"])
    if config.get("text"):
        if config.get("tokenizer"):
            raise ValueError("a text section brings its own tokenizer: leave `tokenizer` out")
        text = load_text_tower(config["text"])
    said = {n: config[n] for n in NAMES if config.get(n)}
    origins = {n: next((str(s[k]) for k in ("run", "clip", "model") if s.get(k)), n)
               for n, s in said.items()}  # fmt: skip
    return Frozen(codec, text, origins)
