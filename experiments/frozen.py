"""The frozen networks that a diffusion run rests on: its codec and its conditions' towers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffjax.data.tokenizer import Tokenizer
from diffjax.denoisers.spaces import DataSpace, LatentSpace, Space
from diffjax.train.start import Given, Start
from experiments.codec import Codec, load_codec
from experiments.start import recorded
from experiments.text_towers import TextTower, load_text_tower


@dataclass(frozen=True, eq=False)
class Frozen:
    """Attributes:
    codec: config section `codec`, loaded; None without one.
    towers: name of a condition -> the text tower that it reads, loaded.
    origins: name -> where it comes from, for messages.
    """

    codec: Codec | None
    towers: Mapping[str, TextTower]
    origins: Mapping[str, str]

    @property
    def tokenizer(self) -> Tokenizer | None:
        """Of the towers; None without one.

        Raises:
          ValueError: towers that read other ids.
        """
        found = {name: tower.tokenizer for name, tower in self.towers.items()}
        if len({t.fingerprint for t in found.values()}) > 1:
            raise ValueError(
                f"the towers of conditions {', '.join(found)} have tokenizers of their own, but "
                "batches have one `tokens`: take towers that read the same ids"
            )
        return next(iter(found.values()), None)

    def space(self, image_shape: tuple[int, ...], codec_of_data: str | None) -> Space:
        """The space of diffusion; `codec_of_data` is the `DatasetInfo.codec` of the batches.

        Raises:
          ValueError: data that hold another codec's moments, or moments and no codec.
        """
        own = None if self.codec is None else self.codec.fingerprint
        if codec_of_data not in (None, own):
            raise ValueError(
                f"the data hold latents of the codec {codec_of_data}, but the config's codec "
                f"section is {own or 'missing'}: name the codec that they were made with"
            )
        if self.codec is None:
            return DataSpace(image_shape)
        return LatentSpace(self.codec.network, image_shape, codec_of_data is not None)

    def start(self, workdir: Path) -> Start | None:
        """Gives the frozen networks their weights; None where there are none."""
        held: dict[str, Any] = {} if self.codec is None else {"codec": self.codec}
        held |= self.towers
        if not held:
            return None

        def load() -> Given:
            for name, part in held.items():
                file = workdir / f"{name}.json"
                recorded(file, name, {"origin": self.origins[name]}, part.variables)
            return {"params": {name: part.variables for name, part in held.items()}}

        return Start(load, " and ".join(self.origins[n] for n in held), tuple(held))


def load_frozen(
    codec: Mapping[str, Any] | None, named: Mapping[str, tuple[Mapping[str, Any], bool]]
) -> Frozen:
    """The networks of a config's `codec` section and of its conditions' towers.

    Args:
      named: name of a condition -> its `tower`, and whether the embedding of a whole text is read.

    Raises:
      ValueError: whatever `load_codec` and `load_text_tower` refuse.
    """
    loaded = load_codec(codec) if codec else None
    towers = {
        name: load_text_tower(section, f"conditions.{name}.tower", pooled)
        for name, (section, pooled) in named.items()
    }
    said = {"codec": codec} if codec else {}
    said |= {name: section for name, (section, _) in named.items()}
    origins = {n: next((str(s[k]) for k in ("run", "clip", "model") if s.get(k)), n)
               for n, s in said.items()}  # fmt: skip
    return Frozen(loaded, towers, origins)
