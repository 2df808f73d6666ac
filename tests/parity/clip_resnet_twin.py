"""CLIP in PyTorch, written from the paper's description, under the key names of its released files.

Radford et al. 2021, section 2.4: a ResNet-D (He et al. 2019) with a three-convolution stem, average
pools where there were strides (Zhang 2019), and a head of attention whose query is the mean; or a
ViT with a norm before its blocks; and a causal text transformer read at its largest token.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, width: int, causal_length: int = 0):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, max(width // 64, 1), batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", QuickGELU())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))
        n = causal_length
        # A plain attribute, as in the released files: of the module, but not of its state dict.
        self.attn_mask = torch.full((n, n), float("-inf")).triu(1) if n else None

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=self.attn_mask)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width: int, depth: int, causal_length: int = 0):
        super().__init__()
        self.resblocks = nn.Sequential(*(Block(width, causal_length) for _ in range(depth)))

    def forward(self, x):
        return self.resblocks(x)


def conv(n: int, m: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n, m, kernel, stride, kernel // 2, bias=False)


class Bottleneck(nn.Module):
    def __init__(self, n: int, planes: int, stride: int):
        super().__init__()
        m = 4 * planes
        self.conv1, self.bn1 = conv(n, planes, 1), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv(planes, planes, 3), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = conv(planes, m, 1), nn.BatchNorm2d(m)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.downsample = nn.Identity()
        if stride > 1 or n != m:
            self.downsample = nn.Sequential(conv(n, m, 1), nn.BatchNorm2d(m))
        self.projected = stride > 1 or n != m

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.pool(F.relu(self.bn2(self.conv2(y))))
        y = self.bn3(self.conv3(y))
        skip = self.downsample(self.pool(x)) if self.projected else x
        return F.relu(y + skip)


class AttentionPool(nn.Module):
    def __init__(self, side: int, width: int, embed: int):
        super().__init__()
        self.heads = width // 64
        self.positional_embedding = nn.Parameter(torch.randn(side**2 + 1, width) / width**0.5)
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.c_proj = nn.Linear(width, width), nn.Linear(width, embed)

    def forward(self, x):
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([x.mean(1, keepdim=True), x], 1) + self.positional_embedding
        b, _, c = x.shape
        q, k, v = (
            p(z).reshape(b, -1, self.heads, c // self.heads).transpose(1, 2)
            for p, z in ((self.q_proj, x[:, :1]), (self.k_proj, x), (self.v_proj, x))
        )
        weights = (q @ k.transpose(2, 3) / (c // self.heads) ** 0.5).softmax(-1)
        return self.c_proj((weights @ v).transpose(1, 2).reshape(b, c))


class ModifiedResNet(nn.Module):
    def __init__(self, layers: tuple[int, ...], width: int, size: int, embed: int):
        super().__init__()
        half = width // 2
        self.conv1, self.bn1 = conv(3, half, 3, stride=2), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = conv(half, half, 3), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = conv(half, width, 3), nn.BatchNorm2d(width)
        n = width
        for level, count in enumerate(layers):
            planes, blocks = width * 2**level, []
            for i in range(count):
                blocks.append(Bottleneck(n, planes, 2 if level and not i else 1))
                n = 4 * planes
            self.add_module(f"layer{level + 1}", nn.Sequential(*blocks))
        self.attnpool = AttentionPool(size // 32, n, embed)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.avg_pool2d(F.relu(self.bn3(self.conv3(x))), 2)
        return self.attnpool(self.layer4(self.layer3(self.layer2(self.layer1(x)))))


class VisionTransformer(nn.Module):
    def __init__(self, depth: int, width: int, patch: int, size: int, embed: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn((size // patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Transformer(width, depth)
        self.proj = nn.Parameter(torch.randn(width, embed) * width**-0.5)

    def forward(self, x):
        x = self.conv1(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(x.shape[0], 1, -1), x], 1)
        x = self.transformer(self.ln_pre(x + self.positional_embedding))
        return self.ln_post(x[:, 0]) @ self.proj


class Twin(nn.Module):
    """`image [B, 3, S, S]` normalised, `tokens [B, context] -> ` both embeddings."""

    def __init__(self, visual: nn.Module, width: int, depth: int, context: int, vocab: int):
        super().__init__()
        embed = 24
        self.visual = visual
        self.token_embedding = nn.Embedding(vocab, width)
        self.positional_embedding = nn.Parameter(0.1 * torch.randn(context, width))
        self.transformer = Transformer(width, depth, causal_length=context)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, embed) * width**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(2.6593))

    def forward(self, image, tokens):
        x = self.token_embedding(tokens) + self.positional_embedding
        x = self.ln_final(self.transformer(x))
        end = tokens.argmax(-1)
        return self.visual(image), x[torch.arange(x.shape[0]), end] @ self.text_projection


def make(kind: str) -> tuple[Twin, int]:
    """A small twin, its parameters and statistics away from 1 and 0, and its image size."""
    torch.manual_seed(0)
    if kind == "resnet":
        visual, size = ModifiedResNet((1, 2, 1, 1), 8, 64, 24), 64
    else:
        visual, size = VisionTransformer(2, 128, 8, 32, 24), 32
    twin = Twin(visual, width=64, depth=2, context=10, vocab=50)
    with torch.no_grad():
        for p in twin.parameters():
            p.add_(0.05 * torch.randn_like(p))
        for name, b in twin.named_buffers():
            if name.endswith("running_mean"):
                b.add_(0.1 * torch.randn_like(b))
            elif name.endswith("running_var"):
                b.mul_(torch.rand_like(b) + 0.5)
    return twin.eval(), size


def normalised(image) -> torch.Tensor:
    """`image [B, S, S, 3] in [-1, 1]`, a numpy array, as a twin takes it."""
    x = (torch.tensor(image) + 1) / 2
    return ((x - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2).contiguous()
