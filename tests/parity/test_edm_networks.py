"""EDM's networks: ours, behind its preconditioning, equal PyTorch twins with the same weights."""

import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")

from configs.networks import NETWORKS  # noqa: E402
from diffjax.diffusion.levels import broadcast_to  # noqa: E402
from diffjax.diffusion.predictions import EDMPrecondition  # noqa: E402
from diffjax.diffusion.schedules import EDM  # noqa: E402
from diffjax.interop.edm import edm_sampling, load_edm  # noqa: E402
from diffjax.interop.files import write_tensors  # noqa: E402
from tests.parity.edm_twin import Preconditioned  # noqa: E402
from tests.parity.networks import agree, draw, first, ours, shaken, some, state  # noqa: E402

pytestmark = pytest.mark.parity

SIZE = 8
CASES = {
    "ddpm++": dict(classes=5, augment=9, width=32, mult=(2, 2)),
    "ncsn++": dict(taps=(1, 3, 3, 1), residual=True, fourier=True, width=32, mult=(1, 2)),
    # Two heads of 64 channels at 4 pixels, one at 8.
    "adm": dict(song=False, attends=(8, 4), classes=5),
}
# Keys of a section that say how a network is drawn or dropped, or size alone.
SIZES = ("channels", "channel_mult", "blocks", "noise_channels", "dropout")


def make(**kwargs):
    torch.manual_seed(0)
    return shaken(Preconditioned(size=SIZE, **kwargs))


@pytest.fixture(scope="module", params=some(CASES, "ncsn++", "adm"))
def case(request, tmp_path_factory):
    model = make(**CASES[request.param])
    file = tmp_path_factory.mktemp("edm") / f"{request.param}.safetensors"
    write_tensors(file, state(model))
    return model, file, CASES[request.param]


def test_forward_is_equal(case):
    model, file, kwargs = case
    part = load_edm(file)
    assert part.facts == {"sample_size": SIZE}
    sigma = np.array([0.01, 1.0, 70.0], np.float32)
    z = draw(SIZE, 3) * sigma[:, None, None, None]
    rng = np.random.default_rng(1)
    label = np.array([4, 0, 2]) if kwargs.get("classes") else None
    extra = rng.standard_normal((3, 9), np.float32) if kwargs.get("augment") else None
    with torch.no_grad():
        one_hot = None if label is None else torch.eye(5)[label]
        labels = (one_hot, None if extra is None else torch.tensor(extra))
        ref = model(first(z), torch.tensor(sigma), *labels)
    precondition, level = EDMPrecondition(0.5), EDM().level(sigma)
    scaled = np.asarray(broadcast_to(precondition.input_scale(level), z)) * z
    noise = precondition.c_noise(EDM(), level)
    y = ours(part, scaled, noise, label=label, augment_labels=extra)
    agree(np.asarray(precondition.to_x(y, z, level)), ref, 3e-5)


@pytest.mark.parametrize(
    ("name", "kwargs"), [("edm_cifar10_vp", dict(augment=9)), ("edm_cifar10_ve", CASES["ncsn++"])]
)
def test_sections_are_those_of_the_configs(name, kwargs, tmp_path):
    write_tensors(tmp_path / "a.safetensors", state(make(**kwargs)))
    section = load_edm(tmp_path / "a.safetensors").section
    for key, value in NETWORKS[name].items():
        if key not in SIZES and key not in ("attention_resolutions", "augment_dim"):
            assert section[key] == value, key


def test_sampling_is_the_papers(case):
    _, file, kwargs = case
    sampling, steps = edm_sampling(load_edm(file))
    assert sampling.schedule == {"type": "edm"} and sampling.recipe["sampler"] == "heun"
    assert steps == (18 if kwargs.get("song", True) else 256)
    assert ("churn" in sampling.recipe) == (steps == 256)


def test_what_is_no_such_file_is_refused_in_a_line(tmp_path):
    weights = state(make())
    file = tmp_path / "a.safetensors"
    bare = {k.removeprefix("model."): v for k, v in weights.items()}
    other = {k: v * (1.1 if "resample" in k else 1) for k, v in weights.items()}
    wrong = {
        "iDDPM's preconditioning": {**weights, "u": np.zeros(1001, np.float32)},
        "no EDMPrecond": bare,
        "no network of EDM": {"model.conv_in.weight": np.zeros((1, 1, 3, 3), np.float32)},
        "unexpected.*aux_skip": {**weights, "model.enc.4x4_aux_skip.weight": np.zeros(1)},
        r"missing.*enc\.4x4_down": {k: v for k, v in weights.items() if "4x4_down" not in k},
        "resampling filter": other,
    }  # fmt: skip
    for said, tensors in wrong.items():
        write_tensors(file, tensors)
        with pytest.raises(ValueError, match=said) as caught:
            load_edm(file)
        assert "\n" not in str(caught.value) and str(file) in str(caught.value)
    with pytest.raises(ValueError, match="No such file"):
        load_edm(tmp_path / "none.safetensors")


class Marks:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_is_refused_and_not_run(tmp_path):
    """The error gives the command that turns one into what can be read."""
    mark, file = tmp_path / "ran", tmp_path / "edm-cifar10-32x32-cond-vp.pkl"
    file.write_bytes(pickle.dumps({"ema": Marks(mark)}))
    with pytest.raises(ValueError, match="would run code") as caught:
        load_edm(file)
    said = str(caught.value)
    assert "\n" not in said and f"open('{file.name}', 'rb')" in said and "save_file({k:" in said
    assert f"'{file.name}.safetensors'" in said and not mark.exists()
    command = said.split('python -c "')[1].rsplit('"', 1)[0]
    compile(command, "command", "exec")
