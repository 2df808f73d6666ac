"""InceptionV3 for FID: features equal PyTorch's, and its weights come in by every file."""

import jax
import numpy as np
import pytest

from diffjax.compiler import compiler_options
from diffjax.evals.released_features import PROTOCOLS, SCALES, inception_features
from diffjax.evals.resample import Resample
from diffjax.interop.files import write_tensors
from diffjax.interop.inception import inception_state, load_inception, save_inception
from diffjax.models.inception import InceptionV3
from experiments.benchmarks.inception_weights import random_inception

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")

from tests.parity.fid_peers import peer  # noqa: E402
from tests.parity.inception_twin import twin  # noqa: E402

pytestmark = pytest.mark.parity
CLOSE = 1e-4


@pytest.fixture(scope="module")
def weights():
    return random_inception()


@pytest.fixture(scope="module")
def state(weights):
    return inception_state(weights)


@pytest.fixture(scope="module")
def network():
    apply = lambda variables, x: InceptionV3().apply(variables, x)  # noqa: E731
    return jax.jit(apply, compiler_options=compiler_options())


def ours(network, weights, levels, protocol):
    """Our network on `levels [1, H, W, 3] uint8`; resized apart, so that one program serves all."""
    resize, scale = PROTOCOLS[protocol]
    gain, shift = SCALES[scale]
    image = levels.astype(np.float32) / np.float32(127.5) - 1
    return network(weights, Resample(resize, 299)(image) * np.float32(gain) + np.float32(shift))


def pictures(size):
    """Smooth colours with noise on them, as photographs have."""
    rng = np.random.default_rng(size)
    x = np.linspace(0, 3, size)
    wave = np.sin(x[:, None, None] * rng.uniform(1, 4, 3) + np.cos(x)[None, :, None] * 2)
    noisy = 127 + 90 * wave + 25 * rng.standard_normal((size, size, 3))
    return noisy.clip(0, 255).astype(np.uint8)[None]


def close(got, expected, tolerance=CLOSE):
    expected = expected.numpy()
    assert got.shape == expected.shape
    assert expected.std() > 1e-3  # the weights let something through
    error = np.linalg.norm(got - expected) / np.linalg.norm(expected)
    assert error < tolerance
    assert np.abs(got - expected).max() < tolerance * np.abs(expected).max()


def test_features_equal_a_twin_of_pytorch(network, weights, state):
    """At 299, 64 and 32 pixels, through torch's own interpolation."""
    made = twin(state)
    for size in (299, 64, 32):
        levels = pictures(size)
        x = torch.from_numpy(levels).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            x = torch.nn.functional.interpolate(x, (299, 299), mode="bilinear", align_corners=False)
            expected = made(2 * x - 1)
        found = ours(network, weights, levels, "pytorch_fid")
        assert set(found) == set(expected)
        for name, value in expected.items():
            close(np.asarray(found[name]), value)


@pytest.mark.heavy
def test_features_equal_pytorch_fid(network, weights, state, monkeypatch):
    theirs = peer("pytorch_fid.inception")
    held = {k: torch.from_numpy(v.copy()) for k, v in state.items()}
    monkeypatch.setattr(theirs, "load_state_dict_from_url", lambda *a, **k: held)
    strict = torch.nn.Module.load_state_dict
    monkeypatch.setattr(  # the released file has no counts of batches either
        torch.nn.Module, "load_state_dict", lambda self, s: strict(self, s, strict=False)
    )
    made = theirs.InceptionV3([0, 1, 2, 3]).eval()
    for size in (299, 64, 32):
        levels = pictures(size)
        with torch.no_grad():
            expected = made(torch.from_numpy(levels).permute(0, 3, 1, 2).float() / 255)
        found = ours(network, weights, levels, "pytorch_fid")
        for width, value in zip(("64", "192", "768", "2048"), expected, strict=True):
            close(np.asarray(found[width]), value.mean((2, 3)))


@pytest.mark.heavy
def test_features_equal_torch_fidelity(network, weights, state, tmp_path, monkeypatch):
    """The TensorFlow graph's resize and scale, and logits with and without their bias."""
    theirs = peer("torch_fidelity.feature_extractor_inceptionv3")
    made = twin(state)
    torch.save(made.state_dict(), tmp_path / "weights.pth")
    names = ["64", "192", "768", "2048", "logits_unbiased", "logits"]
    made = theirs.FeatureExtractorInceptionV3(
        "inception", names, feature_extractor_weights_path=str(tmp_path / "weights.pth")
    )
    for size in (299, 64, 32):
        levels = pictures(size)
        with torch.no_grad():
            expected = made(torch.from_numpy(levels).permute(0, 3, 1, 2))
        found = ours(network, weights, levels, "tensorflow")
        for name, value in zip(names, expected, strict=True):
            close(np.asarray(found[name]), value)


@pytest.mark.heavy
def test_the_extractor_is_the_whole_way(weights, state):
    """From 8 bits, colour or grey, on the device and one by one: the twin's features."""
    made, extract = twin(state), inception_features(weights, batch_size=2)
    levels = np.concatenate([pictures(32), pictures(32)[:, ::-1]])
    levels[1] = levels[1, ..., :1]
    x = torch.from_numpy(levels.copy()).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        x = torch.nn.functional.interpolate(x, (299, 299), mode="bilinear", align_corners=False)
        expected = made(2 * x - 1)
    found = extract.pixels(levels)
    for got, name in zip(found, ("2048", "logits_unbiased", "spatial"), strict=True):
        close(got, expected[name])
    grey = extract.pixels([levels[1, ..., :1]])
    close(grey.features, expected["2048"][1:])
    mixed = extract.pixels([levels[0], levels[0][:20]])
    close(mixed.features[:1], expected["2048"][:1])


def test_weights_come_in_from_a_file_of_old(weights, state, tmp_path):
    """What torch wrote before 1.6, as pytorch-fid's file is."""
    held = {k: torch.from_numpy(v) for k, v in state.items()}
    torch.save(held, tmp_path / "then.pth", _use_new_zipfile_serialization=False)
    jax.tree.map(np.testing.assert_array_equal, load_inception(tmp_path), weights)


@pytest.mark.heavy
def test_weights_come_in_by_every_file(weights, state, tmp_path):
    """What torch writes now, with the counts of batches that pytorch-fid's file lacks, and ours."""
    held = {k: torch.from_numpy(v.copy()) for k, v in state.items()}
    held["Mixed_7c.branch_pool.bn.num_batches_tracked"] = torch.tensor(0)
    torch.save(held, tmp_path / "now.pth")
    save_inception(tmp_path / "weights.safetensors", weights)
    for name in ("now.pth", "weights.safetensors"):
        found = load_inception(tmp_path / name)
        jax.tree.map(np.testing.assert_array_equal, found, weights)
    with pytest.raises(ValueError, match=r"holds .*: name the file"):
        load_inception(tmp_path)


def test_other_networks_are_refused(state, tmp_path):
    """torchvision's own Inception: 1000 classes and an auxiliary head."""
    head = {k: v for k, v in state.items() if k.startswith(("fc", "Conv2d_1a"))}
    held = {k: torch.from_numpy(v) for k, v in head.items()}
    torch.save({**held, "AuxLogits.fc.bias": torch.zeros(1000)}, tmp_path / "aux.pth")
    with pytest.raises(ValueError, match=r"not FID's InceptionV3.*unexpected \['AuxLogits"):
        load_inception(tmp_path / "aux.pth")


@pytest.mark.heavy
def test_other_heads_are_refused(state, tmp_path):
    write_tensors(tmp_path / "w.safetensors", {**state, "fc.bias": np.zeros(1000, np.float32)})
    with pytest.raises(ValueError, match=r"fc\.bias is \(1000,\)"):
        load_inception(tmp_path)
