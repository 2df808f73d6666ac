"""Laws of principal components: what they explain, and what is reconstructed of them."""

import numpy as np
import pytest

from diffjax.metrics.pca import components_for, explained, fit, project, reconstruct

N, E = 600, 9
rng = np.random.default_rng(0)
SPREAD = 2.0 ** -np.arange(E)
TURN, _ = np.linalg.qr(rng.standard_normal((E, E)))


def rows(count, seed):
    """Rows whose principal components are those of TURN, about (1, ..., 9)."""
    drawn = np.random.default_rng(seed).standard_normal((count, E))
    return drawn * SPREAD @ TURN.T + np.arange(1, E + 1)


PCA = fit([rows(N, 1)])


def test_components_are_unit_rows_by_decreasing_variance():
    np.testing.assert_allclose(PCA.components @ PCA.components.T, np.eye(E), atol=1e-12)
    assert (np.diff(PCA.variance) < 0).all() and PCA.variance.dtype == np.float64
    coordinates = (rows(N, 1) - PCA.mean) @ PCA.components.T
    np.testing.assert_allclose(np.cov(coordinates.T), np.diag(PCA.variance), atol=1e-12)
    near = np.abs((PCA.components * TURN.T).sum(1))
    assert (near > 0.99).all()


def test_batches_and_their_order_change_nothing_but_rounding():
    whole = rows(N, 1)
    parts = np.split(whole, [10, 11, 400])
    for other in (fit(parts), fit(parts[::-1])):
        for a, b in zip(PCA, other, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-10)


def test_of_either_sign_one_is_chosen():
    largest = np.abs(PCA.components).argmax(axis=1)
    assert (PCA.components[np.arange(E), largest] > 0).all()


def test_all_components_give_back_the_row():
    x = rows(50, 2).astype(np.float32)
    np.testing.assert_allclose(reconstruct(PCA, project(PCA, x)), x, atol=1e-5)
    np.testing.assert_allclose(reconstruct(PCA, project(PCA, x[0])), x[0], atol=1e-5)


@pytest.mark.parametrize("k", [0, 1, 4])
def test_the_first_components_lose_the_variance_of_the_others(k):
    x = rows(N, 1)
    coordinates = project(PCA, x)
    got = reconstruct(PCA, coordinates, k)
    np.testing.assert_allclose(got, reconstruct(PCA, project(PCA, x, k)), atol=1e-6)
    lost = np.square(x - np.asarray(got, np.float64)).sum() / (N - 1)
    assert lost == pytest.approx(PCA.variance[k:].sum(), rel=1e-3)
    if not k:
        np.testing.assert_allclose(got, np.tile(PCA.mean, (N, 1)), rtol=1e-6)


@pytest.mark.parametrize("share", [0.5, 0.75, 0.9, 0.99, 1.0])
def test_as_few_components_as_explain_a_share_of_the_variance(share):
    k = components_for(PCA.variance, share)
    shares = explained(PCA.variance)
    assert shares[k - 1] >= share - 1e-12 and (k == 1 or shares[k - 2] < share)
    # Of rows that were not fitted on too, but for what chance does to a variance.
    x = rows(N, 3)
    lost = np.square(x - np.asarray(reconstruct(PCA, project(PCA, x, k)))).sum()
    assert 1 - lost / np.square(x - PCA.mean).sum() > share - 0.03
    assert components_for(np.float32([2, 1, 1, 0, 0]), share) == {
        0.5: 1, 0.75: 2, 0.9: 3, 0.99: 3, 1.0: 3}[share]  # fmt: skip


def test_rows_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="no features"):
        fit([])
    with pytest.raises(ValueError):
        fit([np.full((3, E), np.nan)])
