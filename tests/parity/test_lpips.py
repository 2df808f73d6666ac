"""LPIPS against the same network in torch, and the distance's gradient too."""

import jax
import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

from diffjax.interop.perceptual import load_lpips  # noqa: E402
from diffjax.models.perceptual import VGG16, Perceptual  # noqa: E402

PLAN = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")
ENDS = (3, 8, 15, 22, 29)  # The ReLUs whose maps are compared.


class Twin(torch.nn.Module):
    """Zhang et al. 2018 over VGG16, in the names of torchvision's and of the original's files."""

    def __init__(self):
        super().__init__()
        layers, inputs = [], 3
        for width in PLAN:
            if width == "M":
                layers.append(torch.nn.MaxPool2d(2, 2))
                continue
            layers += [torch.nn.Conv2d(inputs, width, 3, padding=1), torch.nn.ReLU()]
            inputs = width
        self.features = torch.nn.Sequential(*layers)
        self.heads = torch.nn.ParameterList(
            [torch.rand(1, width, 1, 1) for width in (64, 128, 256, 512, 512)]
        )

    def maps(self, x):
        shift = torch.tensor([-0.030, -0.088, -0.188])[None, :, None, None]
        scale = torch.tensor([0.458, 0.448, 0.450])[None, :, None, None]
        x, found = (x - shift) / scale, []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in ENDS:
                found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found

    def forward(self, x, y):
        pairs = zip(self.maps(x), self.maps(y), self.heads, strict=True)
        each = [torch.nn.functional.conv2d((a - b) ** 2, head) for a, b, head in pairs]
        return sum(d.mean((1, 2, 3)) for d in each)


def test_distance_and_gradient_are_those_of_torch(tmp_path):
    torch.manual_seed(0)
    twin = Twin()
    torch.save({f"features.{k}": v for k, v in twin.features.state_dict().items()},
               tmp_path / "vgg.pth")  # fmt: skip
    heads = {f"lin{i}.model.1.weight": h.detach() for i, h in enumerate(twin.heads)}
    torch.save(heads, tmp_path / "heads.pth")
    params = load_lpips(tmp_path / "vgg.pth", tmp_path / "heads.pth")
    random = np.random.default_rng(0)
    x, y = random.uniform(-1, 1, (2, 2, 32, 32, 3)).astype(np.float32)
    a, b = (torch.tensor(v.transpose(0, 3, 1, 2)) for v in (x, y))
    b.requires_grad_(True)
    theirs = twin(a, b)
    theirs.sum().backward()
    network = Perceptual(VGG16())

    def ours(y, x, params):
        distance = network.apply({"params": params}, x, y)
        return distance.sum(), distance

    (_, distance), gradient = jax.jit(jax.value_and_grad(ours, has_aux=True))(y, x, params)
    np.testing.assert_allclose(distance, theirs.detach().numpy(), rtol=1e-5)
    expected = b.grad.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
