"""Benchmark worker: pytorch-fid's network with the same weights."""

from __future__ import annotations

import contextlib
import sys

from experiments.benchmarks.fid_shapes import FID_SHAPES, pictures
from experiments.benchmarks.inception_weights import random_inception
from experiments.benchmarks.interleave import serve


def _network():
    """pytorch-fid's, which would download its weights; it needs no operator of torchvision's."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import pytorch_fid.inception as theirs

    from diffjax.interop.inception import inception_state

    held = {k: torch.from_numpy(v.copy()) for k, v in inception_state(random_inception()).items()}
    theirs.load_state_dict_from_url = lambda *args, **kw: held
    strict = torch.nn.Module.load_state_dict
    torch.nn.Module.load_state_dict = lambda self, state: strict(self, state, strict=False)
    return theirs.InceptionV3([3]).eval()


def build(shape_name: str, threads: int, layout: str, dtype: str, names: list[str]):
    """(facts, operations called `names`)."""
    import torch

    if dtype != "float32":
        raise ValueError("features for distances are computed in float32")
    shape = FID_SHAPES[shape_name]
    if threads:
        torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    model = _network().to(device, memory_format=memory)
    images = torch.from_numpy(pictures(shape)).permute(0, 3, 1, 2)
    # The head, which pytorch-fid's own features leave out, is counted with ours.
    head = 2048 * 1008 + 1008
    facts = {"parameters": sum(p.numel() for p in model.parameters()) + head, "backend": device}

    def features():
        for start in range(0, shape.images, shape.batch):
            x = images[start : start + shape.batch].to(device).float() / 255
            with torch.no_grad():
                model(x.contiguous(memory_format=memory))[0].squeeze(3).squeeze(2).cpu().numpy()

    return facts, {name: {"features": features}[name] for name in names}


if __name__ == "__main__":
    shape, threads, layout, dtype, names = sys.argv[1:]
    serve(lambda: build(shape, int(threads), layout, dtype, names.split(",")))
