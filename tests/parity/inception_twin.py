"""FID's InceptionV3 in PyTorch, written down a second time: the names and shapes of its weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Unit(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


def same(inputs, outputs, height, width=None):
    width = height if width is None else width
    return Unit(inputs, outputs, (height, width), 1, (height // 2, width // 2))


class Block(nn.Module):
    """Branches of attribute names; a pair of names forks."""

    def __init__(self, units, branches, pool):
        super().__init__()
        for name, unit in units.items():
            self.add_module(name, unit)
        self.branches, self.pool = branches, pool

    def forward(self, x):
        found = []
        for branch in self.branches:
            h = x
            for name in branch.split():
                fork = [getattr(self, part)(h) for part in name.split("|")]
                h = torch.cat(fork, 1)
            found.append(h)
        if self.pool == "shrink":
            return torch.cat([*found, F.max_pool2d(x, 3, 2)], 1)
        if self.pool == "max":
            y = F.max_pool2d(x, 3, 1, 1)
        else:
            y = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return torch.cat([*found, self.branch_pool(y)], 1)


def block_a(n, pool):
    units = {
        "branch1x1": same(n, 64, 1),
        "branch5x5_1": same(n, 48, 1),
        "branch5x5_2": same(48, 64, 5),
        "branch3x3dbl_1": same(n, 64, 1),
        "branch3x3dbl_2": same(64, 96, 3),
        "branch3x3dbl_3": same(96, 96, 3),
        "branch_pool": same(n, pool, 1),
    }
    third = "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3"
    return Block(units, ["branch1x1", "branch5x5_1 branch5x5_2", third], "average")


def block_b(n):
    units = {
        "branch3x3": Unit(n, 384, 3, 2),
        "branch3x3dbl_1": same(n, 64, 1),
        "branch3x3dbl_2": same(64, 96, 3),
        "branch3x3dbl_3": Unit(96, 96, 3, 2),
    }
    return Block(units, ["branch3x3", "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3"], "shrink")


def block_c(n, c):
    units = {
        "branch1x1": same(n, 192, 1),
        "branch7x7_1": same(n, c, 1),
        "branch7x7_2": same(c, c, 1, 7),
        "branch7x7_3": same(c, 192, 7, 1),
        "branch7x7dbl_1": same(n, c, 1),
        "branch7x7dbl_2": same(c, c, 7, 1),
        "branch7x7dbl_3": same(c, c, 1, 7),
        "branch7x7dbl_4": same(c, c, 7, 1),
        "branch7x7dbl_5": same(c, 192, 1, 7),
        "branch_pool": same(n, 192, 1),
    }
    second = "branch7x7_1 branch7x7_2 branch7x7_3"
    third = " ".join(f"branch7x7dbl_{i}" for i in range(1, 6))
    return Block(units, ["branch1x1", second, third], "average")


def block_d(n):
    units = {
        "branch3x3_1": same(n, 192, 1),
        "branch3x3_2": Unit(192, 320, 3, 2),
        "branch7x7x3_1": same(n, 192, 1),
        "branch7x7x3_2": same(192, 192, 1, 7),
        "branch7x7x3_3": same(192, 192, 7, 1),
        "branch7x7x3_4": Unit(192, 192, 3, 2),
    }
    second = " ".join(f"branch7x7x3_{i}" for i in range(1, 5))
    return Block(units, ["branch3x3_1 branch3x3_2", second], "shrink")


def block_e(n, pool):
    units = {
        "branch1x1": same(n, 320, 1),
        "branch3x3_1": same(n, 384, 1),
        "branch3x3_2a": same(384, 384, 1, 3),
        "branch3x3_2b": same(384, 384, 3, 1),
        "branch3x3dbl_1": same(n, 448, 1),
        "branch3x3dbl_2": same(448, 384, 3),
        "branch3x3dbl_3a": same(384, 384, 1, 3),
        "branch3x3dbl_3b": same(384, 384, 3, 1),
        "branch_pool": same(n, 192, 1),
    }
    second = "branch3x3_1 branch3x3_2a|branch3x3_2b"
    third = "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3a|branch3x3dbl_3b"
    return Block(units, ["branch1x1", second, third], pool)


class Twin(nn.Module):
    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3 = Unit(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = Unit(32, 32, 3)
        self.Conv2d_2b_3x3 = Unit(32, 64, 3, 1, 1)
        self.Conv2d_3b_1x1 = Unit(64, 80, 1)
        self.Conv2d_4a_3x3 = Unit(80, 192, 3)
        self.Mixed_5b = block_a(192, 32)
        self.Mixed_5c = block_a(256, 64)
        self.Mixed_5d = block_a(288, 64)
        self.Mixed_6a = block_b(288)
        self.Mixed_6b = block_c(768, 128)
        self.Mixed_6c = block_c(768, 160)
        self.Mixed_6d = block_c(768, 160)
        self.Mixed_6e = block_c(768, 192)
        self.Mixed_7a = block_d(768)
        self.Mixed_7b = block_e(1280, "average")
        self.Mixed_7c = block_e(2048, "max")
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x):
        """`x [B, 3, H, W]`, resized and scaled, to what our network calls by these names."""
        found = {}
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, 2)
        found["64"] = x.mean((2, 3))
        x = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, 2)
        found["192"] = x.mean((2, 3))
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x))))
        x = self.Mixed_6c(self.Mixed_6b(x))
        grid = self.Mixed_6d.branch1x1(x)[:, :7]
        found["spatial"] = grid.permute(0, 2, 3, 1).flatten(1)
        x = self.Mixed_6e(self.Mixed_6d(x))
        found["768"] = x.mean((2, 3))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        found["2048"] = x.mean((2, 3))
        found["logits"] = self.fc(found["2048"])
        found["logits_unbiased"] = found["2048"] @ self.fc.weight.T
        return found


def twin(state):
    """The network with a state dict of numpy arrays, strictly but for the counts of batches."""
    made = Twin().eval()
    held = {k: torch.from_numpy(v.copy()) for k, v in state.items()}
    counts = {k: v for k, v in made.state_dict().items() if k.endswith("num_batches_tracked")}
    made.load_state_dict({**held, **counts})
    return made
