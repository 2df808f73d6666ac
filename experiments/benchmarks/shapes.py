"""The networks that are timed, and their analytic cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """One timed problem: a batch of `size` x `size` x `channels_in` images through `model`."""

    batch: int
    size: int
    channels_in: int
    model: dict[str, Any]


def _unet(channels: int, channels_in: int, attention: int) -> dict[str, Any]:
    return dict(
        type="unet",
        channels=channels,
        out_channels=channels_in,
        channel_mult=(1, 2),
        blocks=2,
        attention_resolutions=(attention,),
        norm_groups=8,
    )


SHAPES: dict[str, Shape] = {
    "small16": Shape(128, 16, 3, _unet(32, 3, 8)),  # 1.0 million parameters
    "digits8": Shape(128, 8, 1, _unet(32, 1, 4)),
    "cifar32": Shape(
        128,
        32,
        3,
        dict(
            type="unet",
            channels=128,
            out_channels=3,
            channel_mult=(1, 2, 2, 2),
            blocks=2,
            attention_resolutions=(16,),
        ),
    ),
}


def forward_macs(shape: Shape) -> float:
    """Multiply-accumulates of one image's forward pass: convolutions, dense layers, attention.

    An analytic count: a compiler's own counts a loop's body once.
    """
    m, embed = shape.model, 4 * shape.model["channels"]
    side, width = shape.size, m["channels"]

    def block(side: int, cin: int, cout: int, attend: bool) -> float:
        pixels = side * side
        macs = pixels * 9 * (cin + cout) * cout + embed * cout
        macs += pixels * cin * cout if cin != cout else 0
        return macs + (pixels * 4 * cout**2 + 2 * pixels**2 * cout if attend else 0)

    macs = width * embed + embed**2 + side**2 * 9 * shape.channels_in * width
    skips, current = [width], width
    for level, mult in enumerate(m["channel_mult"]):
        if level:
            side //= 2
            macs += side**2 * 9 * current**2
            skips.append(current)
        for _ in range(m["blocks"]):
            macs += block(side, current, width * mult, side in m["attention_resolutions"])
            current = width * mult
            skips.append(current)
    macs += block(side, current, current, True) + block(side, current, current, False)
    for level, mult in reversed(list(enumerate(m["channel_mult"]))):
        if level < len(m["channel_mult"]) - 1:
            side *= 2
            macs += side**2 * 9 * current**2
        for _ in range(m["blocks"] + 1):
            attend = side in m["attention_resolutions"]
            macs += block(side, current + skips.pop(), width * mult, attend)
            current = width * mult
    return macs + side**2 * 9 * current * m["out_channels"]
