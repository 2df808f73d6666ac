"""DiT as its authors describe it (Peebles & Xie 2023), with the keys of their files, in PyTorch.

Sizes are small. Positions are written from the paper's words: each half of the features encodes
one axis, by sines then cosines of the position over a geometric range of wavelengths.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def axis(positions, width):
    rate = 10_000.0 ** (-np.arange(width // 2) / (width // 2))
    angle = np.outer(positions, rate)
    return np.concatenate([np.sin(angle), np.cos(angle)], 1)


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.attn = nn.ModuleDict(
            {"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)}
        )
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)}
        )
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def attend(self, x):
        b, n, c = x.shape
        q, k, v = self.attn["qkv"](x).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.attn["proj"](y.transpose(1, 2).reshape(b, n, c))

    def forward(self, x, cond):
        shift1, scale1, gate1, shift2, scale2, gate2 = [
            m[:, None] for m in self.adaLN_modulation(cond).split(x.shape[-1], -1)
        ]
        norm = lambda z: F.layer_norm(z, z.shape[-1:], eps=1e-6)  # noqa: E731
        x = x + gate1 * self.attend(norm(x) * (1 + scale1) + shift1)
        hidden = F.gelu(self.mlp["fc1"](norm(x) * (1 + scale2) + shift2), approximate="tanh")
        return x + gate2 * self.mlp["fc2"](hidden)


class DiT(nn.Module):
    def __init__(self, size=8, patch=2, channels=4, width=48, depth=2, heads=4, classes=5):
        super().__init__()
        self.side, self.patch = size // patch, patch
        self.x_embedder = nn.ModuleDict({"proj": nn.Conv2d(channels, width, patch, patch)})
        self.t_embedder = nn.ModuleDict(
            {"mlp": nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))}
        )
        self.y_embedder = nn.ModuleDict({"embedding_table": nn.Embedding(classes + 1, width)})
        at = np.arange(self.side**2)
        places = np.concatenate(
            [axis(at % self.side, width // 2), axis(at // self.side, width // 2)], 1
        )
        self.pos_embed = nn.Parameter(torch.tensor(places[None], dtype=torch.float32), False)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.final_layer = nn.ModuleDict(
            {
                "linear": nn.Linear(width, patch * patch * 2 * channels),
                "adaLN_modulation": nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width)),
            }
        )

    def forward(self, x, t, label):
        p, side = self.patch, self.side
        angle = t[:, None] * 10_000.0 ** (-torch.arange(128) / 128)
        cond = self.t_embedder["mlp"](torch.cat([angle.cos(), angle.sin()], 1))
        cond = cond + self.y_embedder["embedding_table"](label)
        h = self.x_embedder["proj"](x).flatten(2).transpose(1, 2) + self.pos_embed
        for block in self.blocks:
            h = block(h, cond)
        shift, scale = self.final_layer["adaLN_modulation"](cond)[:, None].chunk(2, -1)
        h = F.layer_norm(h, h.shape[-1:], eps=1e-6) * (1 + scale) + shift
        h = self.final_layer["linear"](h).view(len(x), side, side, p, p, -1)
        return h.permute(0, 5, 1, 3, 2, 4).reshape(len(x), -1, side * p, side * p)
