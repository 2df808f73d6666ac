"""PSNR and SSIM against their definitions, window by window, and against scikit-image."""

import numpy as np
import pytest

from diffjax.metrics.codebook import usage
from diffjax.metrics.similarity import psnr, ssim

RANDOM = np.random.default_rng(0)


def pair(n=3, side=16, channels=3, noise=20.0):
    a = RANDOM.uniform(0, 255, (n, side // 4, side // 4, channels)).repeat(4, 1).repeat(4, 2)
    b = a + RANDOM.normal(scale=noise, size=a.shape)
    return np.rint(a).astype(np.uint8), np.clip(np.rint(b), 0, 255).astype(np.uint8)


def test_psnr_of_a_known_error():
    a = np.full((2, 4, 4, 3), 100, np.uint8)
    b = np.stack([a[0] + 5, a[1]])
    np.testing.assert_allclose(psnr(a, b), [20 * np.log10(255 / 5), np.inf])


def test_ssim_is_its_definition_window_by_window():
    a, b = (x.astype(np.float64) for x in pair(n=1, channels=1))
    offset = np.arange(11) - 5
    weight = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * 1.5**2))
    weight /= weight.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for i in range(6):
        for j in range(6):
            x, y = a[0, i : i + 11, j : j + 11, 0], b[0, i : i + 11, j : j + 11, 0]
            mx, my = (weight * x).sum(), (weight * y).sum()
            vx, vy = (weight * (x - mx) ** 2).sum(), (weight * (y - my) ** 2).sum()
            cov = (weight * (x - mx) * (y - my)).sum()
            top = (2 * mx * my + c1) * (2 * cov + c2)
            values.append(top / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    np.testing.assert_allclose(ssim(a, b), [np.mean(values)], rtol=1e-9)


def test_ssim_is_one_of_equals_symmetric_and_falls_with_noise():
    a, b = pair()
    np.testing.assert_allclose(ssim(a, a), 1.0)
    np.testing.assert_allclose(ssim(a, b), ssim(b, a))
    much = np.clip(a + RANDOM.normal(scale=80, size=a.shape), 0, 255)
    assert (ssim(a, much) < ssim(a, b)).all() and (ssim(a, b) < 1).all()
    # The range sets the scale: nothing else knows it.
    np.testing.assert_allclose(ssim(a / 255.0, b / 255.0, peak=1.0), ssim(a, b), rtol=1e-9)


def test_images_smaller_than_the_window_are_refused():
    with pytest.raises(ValueError, match="11 pixels"):
        ssim(np.zeros((1, 10, 32, 3)), np.zeros((1, 10, 32, 3)))


def test_ssim_is_that_of_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    a, b = pair(n=2, side=32)
    theirs = [
        metrics.structural_similarity(
            x, y, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
            data_range=255,
        )
        for x, y in zip(a, b, strict=True)
    ]  # fmt: skip
    np.testing.assert_allclose(ssim(a, b), theirs, rtol=1e-6)
    noise = [metrics.peak_signal_noise_ratio(x, y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(psnr(a, b), noise, rtol=1e-9)


def test_a_codebook_used_evenly_and_not():
    assert usage(np.arange(12) % 4) == (pytest.approx(4.0), 4)
    assert usage(np.full((2, 3), 7)) == (pytest.approx(1.0), 1)
    share = np.array([1, 3]) / 4
    assert usage(np.array([5, 0, 5, 5])).perplexity == pytest.approx(np.prod(share**-share))
