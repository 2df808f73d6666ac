"""The Stable Diffusions that are timed: one description for both libraries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from configs.networks import NETWORKS

VOCAB, CONTEXT, LATENT_CHANNELS = 49408, 77, 4
STEPS, GUIDANCE = 20, 7.5


@dataclass(frozen=True)
class DiffusionShape:
    """One timed problem: `batch` images of `size` pixels (latents of `size / 8`).

    Attributes:
      widths: of the U-Net's four levels, all but the last of which attend.
      heads: of its attention.
      vae_widths: of the autoencoder's four levels, as 1 to 2 to 4 to 4.
      text_width, text_depth, text_heads: of the tower.
    """

    batch: int
    size: int
    widths: tuple[int, ...]
    heads: int
    vae_widths: tuple[int, ...]
    text_width: int
    text_depth: int
    text_heads: int

    @property
    def latent(self) -> int:
        return self.size // 8

    def unet(self) -> dict[str, Any]:
        """Our section of the U-Net."""
        return NETWORKS["stable_diffusion_1"] | dict(
            channels=self.widths[0], channel_mult=multiples(self.widths), num_heads=self.heads
        )

    def vae(self) -> dict[str, Any]:
        """Our section of the autoencoder."""
        return NETWORKS["autoencoder_f8"] | dict(channels=self.vae_widths[0])

    def text(self) -> dict[str, Any]:
        """Our section of the text tower."""
        return dict(
            type="text",
            embed=self.text_width,
            width=self.text_width,
            depth=self.text_depth,
            heads=self.text_heads,
            context=CONTEXT,
            vocab=VOCAB,
            activation="quick_gelu",
        )


def multiples(widths: tuple[int, ...]) -> tuple[int, ...]:
    """Widths in units of the first."""
    return tuple(w // widths[0] for w in widths)


_SD = ((320, 640, 1280, 1280), 8, (128, 256, 512, 512), 768, 12, 12)
DIFFUSION_SHAPES: dict[str, DiffusionShape] = {
    "tiny": DiffusionShape(2, 128, (64, 128, 256, 256), 4, (32, 64, 128, 128), 128, 2, 2),
    "sd15": DiffusionShape(1, 512, *_SD),
    "sd15_batch8": DiffusionShape(8, 512, *_SD),
}
