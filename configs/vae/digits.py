"""A variational autoencoder of real handwritten digits: 8 x 8 pixels of 17 levels.

    python -m experiments.train --config=configs/vae/digits.py --workdir=runs/vae_digits

Two CPU cores: at most three minutes, the classifier that lends its features included. Expected: an
ELBO of about -87.5 nats for each of the 297 held-out digits (1.97 bits per dimension). The config's
argument names the likelihood: `digits.py:bernoulli` models black and white pixels.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import choose, make

# The config's argument: (likelihood, what the decoder learns of its scale, where that starts).
LIKELIHOODS = {
    "logistic": (dict(type="logistic", levels=17), "pixel", -2.0),
    "gaussian": (dict(type="gaussian", levels=17), "shared", -2.0),
    "bernoulli": (dict(type="bernoulli", binarise="threshold"), "none", 0.0),
}


def get_config(arg: str | None = None) -> ConfigDict:
    likelihood, scale, log_scale = choose(arg, LIKELIHOODS, "logistic")
    return make(
        data=dict(
            train=dict(type="digits", split="train"),
            test=dict(type="digits", split="test"),
        ),
        model=dict(
            type="vae",
            latent=16,
            encoder=dict(type="mlp", width=256, depth=2, dropout=0.2),
            decoder=dict(type="mlp", width=256, depth=2, dropout=0.2),
            scale=scale,
            log_scale=log_scale,
        ),
        task=dict(type="vae", likelihood=likelihood),
        optim=dict(type="adam", lr=3e-3, decay="cosine", warmup_steps=100, clip_norm=100.0),
        ema=dict(slow=dict(half_life=10_000, ramp=0.1)),
        train=dict(steps=3000, batch_size=100, checkpoint_every=1000, log_every=100),
        features=dict(config="configs/classifier/digits.py"),
        evals=dict(
            test=dict(
                type="likelihood", pred="elbo", pred_kw=dict(samples=16), ema="slow", every=1000
            ),
            tight=dict(type="likelihood", pred="iwae", pred_kw=dict(samples=256), ema="slow"),
            reconstruction=dict(type="reconstruction", num_images=297, ema="slow"),
            samples=dict(type="samples", ema="slow"),
            generation=dict(type="generation", num_samples=1000, ema="slow"),
            latents=dict(type="latents", ema="slow"),
        ),
        expected={"test/elbo/nats": (-90.0, -85.0)} if arg in (None, "logistic") else {},
    )
