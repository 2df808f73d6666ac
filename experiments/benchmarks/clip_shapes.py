"""The CLIP networks that are timed, and their analytic cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tower:
    """A transformer of `depth` blocks; heads of 32 channels, hidden layers four times as wide."""

    width: int
    depth: int
    tokens: int

    @property
    def heads(self) -> int:
        return self.width // 32

    def macs(self) -> float:
        """Multiply-accumulates of one example: projections, hidden layers, attention."""
        per_token = 12 * self.width**2 + 2 * self.tokens * self.width
        return self.depth * self.tokens * per_token


@dataclass(frozen=True)
class ClipShape:
    """One timed problem: `batch` pairs of an image and a text of `context` tokens."""

    batch: int
    image_size: int
    patch: int
    context: int
    vocab: int
    embed: int
    image_width: int
    image_depth: int
    text_width: int
    text_depth: int

    @property
    def image(self) -> Tower:
        return Tower(self.image_width, self.image_depth, (self.image_size // self.patch) ** 2 + 1)

    @property
    def text(self) -> Tower:
        return Tower(self.text_width, self.text_depth, self.context)


CLIP_SHAPES: dict[str, ClipShape] = {
    "tiny": ClipShape(128, 32, 8, 16, 1024, 128, 192, 6, 192, 6),
    "shapes": ClipShape(128, 32, 8, 20, 609, 128, 128, 4, 128, 3),
    # For an accelerator: ViT-B/32's widths and depths.
    "vit_b_32": ClipShape(256, 224, 32, 77, 49408, 512, 768, 12, 512, 12),
}


def forward_macs(shape: ClipShape) -> float:
    """Multiply-accumulates of one pair through both towers, patches and projections included."""
    patches = (shape.image.tokens - 1) * 3 * shape.patch**2 * shape.image_width
    projections = (shape.image_width + shape.text_width) * shape.embed
    return shape.image.macs() + shape.text.macs() + patches + projections
