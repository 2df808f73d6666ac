"""FID, KID, Inception score, precision and recall of fixed features equal the other evaluators'."""

import numpy as np
import pytest

from diffjax.metrics.classification import inception_score
from diffjax.metrics.frechet import frechet_distance, moments
from diffjax.metrics.kernel import kernel_distance, squared_mmd
from diffjax.metrics.precision_recall import precision_recall

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")

from tests.parity.fid_peers import peer  # noqa: E402

pytestmark = pytest.mark.parity
REL = 1e-6


@pytest.fixture(scope="module")
def sets():
    """Two sets of 400 and 350 features of width 48, positive and skewed as Inception's are."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(48, 48)) / 7
    x = np.abs(rng.normal(size=(400, 48)) @ mix + 0.2)
    y = np.abs(rng.normal(size=(350, 48)) @ (mix + 0.02 * rng.normal(size=(48, 48))) + 0.25)
    return x.astype(np.float32).astype(np.float64), y.astype(np.float32).astype(np.float64)


@pytest.fixture(scope="module")
def logits():
    return np.random.default_rng(1).normal(size=(403, 20)) * 2


class Given(torch.nn.Module):
    """Hands features through as an extractor's."""

    num_features = 48

    def forward(self, x):
        return x.flatten(1)


def as_images(x):
    return torch.from_numpy(x)[:, :, None, None]


def test_frechet_distance_equals_pytorch_fid(sets):
    theirs = peer("pytorch_fid.fid_score")
    x, y = map(moments, sets)
    expected = theirs.calculate_frechet_distance(x.mean, x.cov, y.mean, y.cov)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=REL)


def test_all_equal_torch_fidelity(sets, logits):
    """With its own subsets and its own shuffling, by the seed."""
    fid, kid = peer("torch_fidelity.metric_fid"), peer("torch_fidelity.metric_kid")
    prc, isc = peer("torch_fidelity.metric_prc"), peer("torch_fidelity.metric_isc")
    x, y = sets
    stats = [fid.fid_features_to_statistics(torch.from_numpy(s)) for s in sets]
    expected = fid.fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(*map(moments, sets)) == pytest.approx(expected, rel=REL)
    options = dict(kid_subsets=13, kid_subset_size=200, rng_seed=2020, verbose=False)
    expected = kid.kid_features_to_metric(*map(torch.from_numpy, sets), **options)
    found = kernel_distance(x, y, subset_size=200, subsets=13, seed=2020)
    assert tuple(expected.values()) == pytest.approx(found, rel=REL)
    expected = prc.prc_features_to_metric(*map(torch.from_numpy, sets), verbose=False)
    found = precision_recall(y, x, 3)
    assert (expected["precision"], expected["recall"]) == pytest.approx(found, rel=REL)
    assert 0.1 < found.precision < 0.9 or 0.1 < found.recall < 0.9
    expected = isc.isc_features_to_metric(torch.from_numpy(logits), 10, True, 2020)
    assert tuple(expected.values()) == pytest.approx(inception_score(logits, seed=2020), rel=REL)


def test_all_equal_torchmetrics(sets, logits):
    image = pytest.importorskip("torchmetrics.image", reason="needs torchmetrics, of '.[parity]'")
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.inception import InceptionScore
    from torchmetrics.image.kid import KernelInceptionDistance

    assert image
    x, y = sets
    fid = FrechetInceptionDistance(Given(), input_img_size=(48, 1, 1))
    fid.update(as_images(y), real=True)
    fid.update(as_images(x), real=False)
    expected = float(fid.compute())
    # It sums uncentred second moments, which costs it a digit or two.
    assert frechet_distance(*map(moments, sets)) == pytest.approx(expected, rel=REL)
    kid = KernelInceptionDistance(Given(), subsets=2, subset_size=350)
    kid.update(as_images(y), real=True)
    kid.update(as_images(x[:350]), real=False)
    assert squared_mmd(x[:350], y) == pytest.approx(float(kid.compute()[0]), rel=REL)
    score = InceptionScore(Given(), splits=1)
    score.update(as_images(logits))
    expected = float(score.compute()[0])
    assert inception_score(logits, splits=1, seed=None)[0] == pytest.approx(expected, rel=REL)
