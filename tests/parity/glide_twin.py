"""GLIDE as its paper and released code have it, with the keys of OpenAI's files, in PyTorch.

Nichol et al. 2021, sections 2 and 3: ADM's U-Net whose attention also reads a text transformer's
output, and the four forms of its input. Sampling is written over the spaced times themselves.
"""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tests.parity.openai_twin import Attend, First, UNet


class Words(nn.Module):
    """A block of the text transformer; a head's query, key and value are rows after another's."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.attn = nn.ModuleDict(
            {"c_qkv": nn.Linear(width, 3 * width), "c_proj": nn.Linear(width, width)}
        )
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)}
        )
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x):
        wide = self.attn["c_qkv"](self.ln_1(x))
        outs = []
        for head in wide.chunk(self.heads, -1):
            q, k, v = head.chunk(3, -1)
            outs.append(F.scaled_dot_product_attention(q, k, v))
        x = x + self.attn["c_proj"](torch.cat(outs, -1))
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x))))


class AttendBoth(Attend):
    """Pixels see the text's tokens and one another, the tokens first."""

    def __init__(self, plain, context):
        channels = plain.norm.num_channels
        super().__init__(channels, plain.heads, new_order=False)
        self.encoder_kv = nn.Conv1d(context, 2 * channels, 1)

    def forward(self, x, context):
        flat = x.flatten(2)
        wide, more = self.qkv(self.norm(flat)), self.encoder_kv(context)
        outs = []
        for own, text in zip(wide.chunk(self.heads, 1), more.chunk(self.heads, 1), strict=True):
            q, k, v = own.chunk(3, 1)
            k, v = (torch.cat(both, 2) for both in zip(text.chunk(2, 1), (k, v), strict=True))
            logits = torch.einsum("bct,bcs->bts", q, k) / math.sqrt(q.shape[1])
            outs.append(torch.einsum("bts,bcs->bct", logits.softmax(-1), v))
        return x + self.proj_out(torch.cat(outs, 1)).view(x.shape)


class Glide(UNet):
    """`inputs`: channels that the network is shown."""

    def __init__(
        self, inputs, *, vocab, text_ctx, xf_width, xf_layers, xf_heads, padding=True,
        final_ln=True, **unet,
    ):  # fmt: skip
        super().__init__(out=6, resblock=True, **unet)
        self.input_blocks[0][0] = First(inputs, self.input_blocks[0][0].out_channels, 3, padding=1)
        for block in (*self.input_blocks, self.middle_block, *self.output_blocks):
            for i, part in enumerate(block):
                if isinstance(part, Attend):
                    block[i] = AttendBoth(part, xf_width)
        self.transformer = nn.ModuleDict(
            {"resblocks": nn.ModuleList(Words(xf_width, xf_heads) for _ in range(xf_layers))}
        )
        if final_ln:
            self.final_ln = nn.LayerNorm(xf_width)
        self.token_embedding = nn.Embedding(vocab, xf_width)
        self.positional_embedding = nn.Parameter(0.1 * torch.randn(text_ctx, xf_width))
        if padding:
            self.padding_embedding = nn.Parameter(0.1 * torch.randn(text_ctx, xf_width))
        self.transformer_proj = nn.Linear(xf_width, 4 * self.width)

    def read(self, tokens, mask):
        """`[B, L, D]` of all tokens."""
        x = self.token_embedding(tokens) + self.positional_embedding
        if hasattr(self, "padding_embedding"):
            x = torch.where(mask[..., None], x, self.padding_embedding)
        for block in self.transformer["resblocks"]:
            x = block(x)
        return self.final_ln(x) if hasattr(self, "final_ln") else x

    def forward(self, x, t, tokens, mask, low_res=None, image=None, keep=None):
        """`keep [B, 1, H, W]` is 1 where `image` is known."""
        size = x.shape[2:]
        seen = [x]
        if image is not None:
            seen += [image * keep, keep]
        if low_res is not None:
            seen.append(F.interpolate(low_res, size, mode="bilinear", align_corners=False))
        x = torch.cat(seen, 1)
        words = self.read(tokens, mask)
        half = self.width // 2
        angle = t[:, None] * 10_000.0 ** (-torch.arange(half) / half)
        emb = self.time_embed(torch.cat([angle.cos(), angle.sin()], 1))
        emb = emb + self.transformer_proj(words[:, -1])
        context = words.transpose(1, 2)

        def through(x, block):
            for part in block:
                x = part(x, context if isinstance(part, AttendBoth) else emb)
            return x

        skips = []
        for block in self.input_blocks:
            x = through(x, block)
            skips.append(x)
        x = through(x, self.middle_block)
        for block in self.output_blocks:
            x = through(torch.cat([x, skips.pop()], 1), block)
        return self.out(x)


def spaced_times(counts, total=1000):
    """Times of sections of so many each, rising: their first and last are a section's own ends."""
    if counts == "fast27":
        times = spaced_times([10, 10, 3, 2, 2], total)
        return [*times[:-1], total - 3]
    found, start = [], 0
    for i, count in enumerate(counts):
        size = total // len(counts) + (i < total % len(counts))
        stride, at = (size - 1) / (count - 1) if count > 1 else 1, 0.0
        for _ in range(count):
            found.append(start + round(at))
            at += stride
        start += size
    return found


def alpha_bars(name, total=1000):
    """The cumulative products of "squaredcos_cap_v2" or "linear", float64."""
    if name == "linear":
        betas = np.linspace(1e-4 * 1000 / total, 0.02 * 1000 / total, total)
    else:
        share = lambda t: math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2  # noqa: E731
        steps = [share((i + 1) / total) / share(i / total) for i in range(total)]
        betas = np.minimum(1 - np.array(steps), 0.999)
    return np.cumprod(1 - betas)


def draw(model, times, bars, x, noise, *, ddim=False, known=None, keep=None):
    """Ancestral steps with the learned variance, or DDIM's, along the rising `times`; x_hat is
    `known` where `keep`, and clipped.

    `model(x [B, 3, H, W], t [B]) -> [B, 6, H, W]`; `noise` are the steps' own, in order.
    """
    spaced = bars[times]
    before = np.concatenate([[1.0], spaced[:-1]])
    betas = 1 - spaced / before
    posterior = betas * (1 - before) / (1 - spaced)
    floor = np.log(np.concatenate([posterior[1:2], posterior[1:]]))
    for i in reversed(range(len(times))):
        now, prev, beta = spaced[i], before[i], betas[i]
        eps, share = model(x, torch.full((len(x),), float(times[i]))).chunk(2, 1)
        clean = (x - math.sqrt(1 - now) * eps) / math.sqrt(now)
        if known is not None:
            clean = clean * (1 - keep) + known * keep
        clean = clean.clamp(-1, 1)
        if ddim:
            eps = (x - math.sqrt(now) * clean) / math.sqrt(1 - now)
            x = math.sqrt(prev) * clean + math.sqrt(1 - prev) * eps
            continue
        mean = math.sqrt(prev) * beta / (1 - now) * clean
        mean = mean + (1 - prev) * math.sqrt(1 - beta) / (1 - now) * x
        share = (share + 1) / 2
        log_variance = share * math.log(beta) + (1 - share) * floor[i]
        x = mean + (torch.exp(0.5 * log_variance) * noise.pop(0) if i else 0)
    return x


def guided(model, scale, tokens, mask, null, null_mask, **more):
    """`model`'s output under classifier-free guidance: of eps alone, the variance is the text's."""

    def output(x, t):
        wanted, share = model(x, t, tokens, mask, **more).chunk(2, 1)
        other = model(x, t, null, null_mask, **more)[:, :3]
        return torch.cat([other + scale * (wanted - other), share], 1)

    return output


WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")


def encode(text, vocab, merges, letters):
    """Ids of a text: GPT-2's byte-level BPE of its lower case (Radford et al. 2019, section 2.2).

    `letters` spell bytes; the pattern is GPT-2's for letters and decimal digits.
    """
    ranks = {pair: i for i, pair in enumerate(merges)}
    ids = []
    for word in WORDS.findall(text.lower()):
        parts = [letters[b] for b in word.encode()]
        while len(parts) > 1:
            pairs = list(itertools.pairwise(parts))
            best = min(pairs, key=lambda pair: ranks.get(pair, math.inf))
            if best not in ranks:
                break
            merged, i = [], 0
            while i < len(parts):
                both = tuple(parts[i : i + 2]) == best
                merged.append("".join(best) if both else parts[i])
                i += 1 + both
            parts = merged
        ids += [vocab[part] for part in parts]
    return ids
