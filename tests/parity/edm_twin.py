"""EDM's two U-Nets as the paper describes them (Karras et al. 2022, appendix F), in PyTorch.

Keys, sizes and the order of a fused projection's rows (a channel's query, key and value one after
another) are those of the released files; the arithmetic is written anew, with the filters of the
resampling as plain strided correlations.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F


class Conv(nn.Module):
    """A convolution of `kernel` (0: none) that resamples first: `way` is up, down or None."""

    def __init__(self, before, after, kernel, way=None, taps=(1, 1), after_filter=False):
        super().__init__()
        self.way, self.kernel, self.after_filter = way, kernel, after_filter
        if kernel:
            self.weight = nn.Parameter(torch.randn(after, before, kernel, kernel) / before**0.5)
            self.bias = nn.Parameter(torch.zeros(after))
        if way:
            f = torch.tensor(taps, dtype=torch.float32)
            f = f[:, None] * f[None, :] / f.sum() ** 2
            self.register_buffer("resample_filter", f[None, None])

    def filtered(self, x, pad):
        b, c, h, w = x.shape
        flat, f = x.reshape(b * c, 1, h, w), self.resample_filter
        if self.way == "down":
            y = F.conv2d(F.pad(flat, (pad,) * 4), f, stride=2)
        else:
            spread = torch.zeros(b * c, 1, 2 * h, 2 * w)
            spread[:, :, ::2, ::2] = flat
            n = f.shape[-1] // 2
            # The filters are symmetric: correlation is convolution.
            y = F.conv2d(F.pad(spread, (n, n - 1, n, n - 1)), 4 * f)
        return y.reshape(b, c, *y.shape[2:])

    def forward(self, x):
        inner = (self.resample_filter.shape[-1] - 1) // 2 if self.way else 0
        if self.after_filter:
            x = F.pad(x, (self.kernel // 2 + inner,) * 4)
            return self.filtered(F.conv2d(x, self.weight, self.bias), 0)
        if self.way:
            x = self.filtered(x, inner)
        return F.conv2d(x, self.weight, self.bias, padding=self.kernel // 2) if self.kernel else x


class Norm(nn.Module):
    def __init__(self, channels, eps):
        super().__init__()
        self.groups, self.eps = min(32, channels // 4), eps
        self.weight, self.bias = (
            nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        )  # fmt: skip

    def forward(self, x):
        return F.group_norm(x, self.groups, self.weight, self.bias, self.eps)


class Block(nn.Module):
    def __init__(self, before, after, emb, *, way=None, heads=0, song=True, taps=(1, 1)):
        super().__init__()
        self.before, self.heads, self.song = before, heads, song
        eps = 1e-6 if song else 1e-5
        self.norm0 = Norm(before, eps)
        self.conv0 = Conv(before, after, 3, way, taps)
        self.affine = nn.Linear(emb, after if song else 2 * after)
        self.norm1 = Norm(after, eps)
        self.conv1 = Conv(after, after, 3)
        if before != after or way:
            self.skip = Conv(before, after, int(song or before != after), way, taps)
        if heads:
            self.norm2 = Norm(after, eps)
            self.qkv = Conv(after, 3 * after, 1)
            self.proj = Conv(after, after, 1)

    def forward(self, x, emb):
        h, e = self.conv0(F.silu(self.norm0(x))), self.affine(emb)[:, :, None, None]
        if self.song:
            h = self.norm1(h + e)
        else:
            scale, shift = e.chunk(2, 1)
            h = self.norm1(h) * (1 + scale) + shift
        h = self.conv1(F.silu(h))
        damp = 0.5**0.5 if self.song else 1.0
        x = ((self.skip(x) if hasattr(self, "skip") else x) + h) * damp
        if self.heads:
            b, c, height, w = x.shape
            wide = self.qkv(self.norm2(x)).flatten(2)
            # Every third row is a query's.
            q, k, v = (
                wide[:, part::3].reshape(b, self.heads, c // self.heads, -1).transpose(2, 3)
                for part in range(3)
            )
            y = F.scaled_dot_product_attention(q, k, v).transpose(2, 3)
            x = (self.proj(y.reshape(b, c, height, w)) + x) * damp
        return x


class UNet(nn.Module):
    def __init__(
        self, size=8, width=64, mult=(1, 2), blocks=1, attends=(4,), *, song=True, taps=(1, 1),
        residual=False, fourier=False, classes=0, augment=0,
    ):  # fmt: skip
        super().__init__()
        self.song, self.noise = song, width * (2 if fourier else 1)
        emb = 4 * width
        if fourier:
            self.map_noise = nn.Module()
            self.map_noise.register_buffer("freqs", 16 * torch.randn(self.noise // 2))
        if classes:
            self.map_label = nn.Linear(classes, self.noise if song else emb, bias=song)
        if augment:
            self.map_augment = nn.Linear(augment, self.noise, bias=False)
        self.map_layer0, self.map_layer1 = nn.Linear(self.noise, emb), nn.Linear(emb, emb)

        def block(before, after, attend=False, way=None):
            heads = 0 if not attend else 1 if song else after // 64
            return Block(before, after, emb, way=way, heads=heads, song=song, taps=taps)

        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        c, skips, aux = width, [width], 3
        for level, m in enumerate(mult):
            side = size >> level
            name = f"{side}x{side}"
            if level == 0:
                self.enc[f"{name}_conv"] = Conv(3, c, 3)
            else:
                self.enc[f"{name}_down"] = block(c, c, way="down")
                skips.append(c)
                if residual:
                    self.enc[f"{name}_aux_residual"] = Conv(aux, c, 3, "down", taps, True)
                    aux = c
            for i in range(blocks):
                self.enc[f"{name}_block{i}"] = block(c, c := width * m, side in attends)
                skips.append(c)
        for level, m in reversed(list(enumerate(mult))):
            side = size >> level
            name = f"{side}x{side}"
            if level == len(mult) - 1:
                self.dec[f"{name}_in0"] = block(c, c, True)
                self.dec[f"{name}_in1"] = block(c, c)
            else:
                self.dec[f"{name}_up"] = block(c, c, way="up")
            for i in range(blocks + 1):
                attend = side in attends and (i == blocks or not song)
                self.dec[f"{name}_block{i}"] = block(c + skips.pop(), c := width * m, attend)
        if song:
            self.dec[f"{size}x{size}_aux_norm"] = Norm(c, 1e-6)
            self.dec[f"{size}x{size}_aux_conv"] = Conv(c, 3, 3)
        else:
            self.out_norm, self.out_conv = Norm(c, 1e-5), Conv(c, 3, 3)

    def emb(self, noise, label, augment):
        half = self.noise // 2
        if hasattr(self, "map_noise"):
            angle = 2 * math.pi * noise[:, None] * self.map_noise.freqs
        else:
            # SongUNet's last rate is exactly 1 / 10,000.
            angle = noise[:, None] * 10_000.0 ** (-torch.arange(half) / (half - self.song))
        waves = [angle.cos(), angle.sin()]
        e = torch.cat(waves[::-1] if self.song else waves, 1)
        if label is not None and self.song:
            e = e + self.map_label(label * label.shape[1] ** 0.5)
        if augment is not None:
            e = e + self.map_augment(augment)
        e = self.map_layer1(F.silu(self.map_layer0(e)))
        if label is not None and not self.song:
            e = e + self.map_label(label)
        return F.silu(e)

    def forward(self, x, noise, label=None, augment=None):
        emb = self.emb(noise, label, augment)
        skips, image = [], x
        for name, part in self.enc.items():
            if name.endswith("aux_residual"):
                x = image = skips[-1] = (x + part(image)) / 2**0.5
                continue
            x = part(x, emb) if isinstance(part, Block) else part(x)
            skips.append(x)
        for part in self.dec.values():
            if not isinstance(part, Block):
                continue
            if x.shape[1] != part.before:
                x = torch.cat([x, skips.pop()], 1)
            x = part(x, emb)
        if not self.song:
            return self.out_conv(F.silu(self.out_norm(x)))
        norm, last = [p for n, p in self.dec.items() if "_aux_" in n]
        return last(F.silu(norm(x)))


class Preconditioned(nn.Module):
    """D(x; sigma) of Table 1, sigma_data = 0.5."""

    def __init__(self, **kwargs):
        super().__init__()
        self.model = UNet(**kwargs)

    def forward(self, x, sigma, label=None, augment=None):
        s = sigma[:, None, None, None]
        out = self.model(x / (s**2 + 0.25) ** 0.5, sigma.log() / 4, label, augment)
        return (0.25 * x + 0.5 * s * (s**2 + 0.25) ** 0.5 * out) / (s**2 + 0.25)
