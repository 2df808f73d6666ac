"""iDDPM's and ADM's U-Net as their papers describe it, with the keys of OpenAI's files, in PyTorch.

Nichol & Dhariwal 2021, appendix A; Dhariwal & Nichol 2021, section 3. Attention is written per
head, straight from what the two orders of a fused projection's rows mean.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


def norm(channels):
    return nn.GroupNorm(32, channels, eps=1e-5)


class Res(nn.Module):
    def __init__(self, before, after, emb, shift, way=None):
        super().__init__()
        self.shift, self.way = shift, way
        self.in_layers = nn.Sequential(
            norm(before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, after * (1 + shift)))
        self.out_layers = nn.Sequential(
            norm(after), nn.SiLU(), nn.Dropout(0.0), nn.Conv2d(after, after, 3, padding=1)
        )
        if before != after:
            self.skip_connection = nn.Conv2d(before, after, 1)

    def resize(self, x):
        if self.way == "down":
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2, mode="nearest") if self.way == "up" else x

    def forward(self, x, emb):
        h = self.in_layers[2](self.resize(self.in_layers[1](self.in_layers[0](x))))
        x, e = self.resize(x), self.emb_layers(emb)[:, :, None, None]
        if self.shift:
            scale, shift = e.chunk(2, 1)
            h = self.out_layers[0](h) * (1 + scale) + shift
        else:
            h = self.out_layers[0](h + e)
        h = self.out_layers[3](F.silu(h))
        return h + (self.skip_connection(x) if hasattr(self, "skip_connection") else x)


class Attend(nn.Module):
    def __init__(self, channels, heads, new_order):
        super().__init__()
        self.heads, self.new_order = heads, new_order
        self.norm = norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x, emb):
        flat = x.flatten(2)
        wide, c = self.qkv(self.norm(flat)), x.shape[1] // self.heads
        outs = []
        for head in range(self.heads):
            if self.new_order:
                starts = [part * x.shape[1] + head * c for part in range(3)]
            else:
                starts = [(3 * head + part) * c for part in range(3)]
            q, k, v = (wide[:, s : s + c].transpose(1, 2) for s in starts)
            outs.append(F.scaled_dot_product_attention(q, k, v).transpose(1, 2))
        return x + self.proj_out(torch.cat(outs, 1)).view(x.shape)


class Plain(nn.Module):
    """A convolution, under the name that its way has in the files."""

    def __init__(self, before, after, way):
        super().__init__()
        self.way = way
        setattr(
            self,
            "op" if way == "down" else "conv",
            nn.Conv2d(before, after, 3, 2 if way == "down" else 1, padding=1),
        )

    def forward(self, x, emb):
        if self.way == "down":
            return self.op(x)
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class First(nn.Conv2d):
    def forward(self, x, emb):
        return super().forward(x)


class UNet(nn.Module):
    def __init__(
        self, width, mult, blocks, attends, heads, *, head_width=None, new_order=False,
        resblock=False, shift=True, out=6, classes=None,
    ):  # fmt: skip
        super().__init__()
        self.width = width
        emb = 4 * width
        many = lambda c: c // head_width if head_width else heads  # noqa: E731
        res = lambda a, b, way=None: Res(a, b, emb, shift, way)  # noqa: E731
        attention = lambda c: Attend(c, many(c), new_order)  # noqa: E731
        change = lambda c, way: res(c, c, way) if resblock else Plain(c, c, way)  # noqa: E731

        self.time_embed = nn.Sequential(nn.Linear(width, emb), nn.SiLU(), nn.Linear(emb, emb))
        if classes:
            self.label_emb = nn.Embedding(classes, emb)
        c = int(width * mult[0])
        self.input_blocks = nn.ModuleList([nn.ModuleList([First(3, c, 3, padding=1)])])
        skips = [c]
        for level, m in enumerate(mult):
            for _ in range(blocks):
                layers = [res(c, c := int(width * m))]
                self.input_blocks.append(
                    nn.ModuleList(layers + ([attention(c)] if level in attends else []))
                )
                skips.append(c)
            if level < len(mult) - 1:
                self.input_blocks.append(nn.ModuleList([change(c, "down")]))
                skips.append(c)
        self.middle_block = nn.ModuleList([res(c, c), attention(c), res(c, c)])
        self.output_blocks = nn.ModuleList()
        for level, m in reversed(list(enumerate(mult))):
            for i in range(blocks + 1):
                layers = [res(c + skips.pop(), c := int(width * m))]
                layers += [attention(c)] if level in attends else []
                layers += [change(c, "up")] if level and i == blocks else []
                self.output_blocks.append(nn.ModuleList(layers))
        self.out = nn.Sequential(norm(c), nn.SiLU(), nn.Conv2d(c, out, 3, padding=1))

    def forward(self, x, t, label=None):
        half = self.width // 2
        angle = t[:, None] * 10_000.0 ** (-torch.arange(half) / half)
        emb = self.time_embed(torch.cat([angle.cos(), angle.sin()], 1))
        if label is not None:
            emb = emb + self.label_emb(label)
        skips = []
        for block in self.input_blocks:
            for part in block:
                x = part(x, emb)
            skips.append(x)
        for part in self.middle_block:
            x = part(x, emb)
        for block in self.output_blocks:
            x = torch.cat([x, skips.pop()], 1)
            for part in block:
                x = part(x, emb)
        return self.out(x)
