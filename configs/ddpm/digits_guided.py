"""The digits run guided by a worse version of itself (Karras et al. 2024a, autoguidance).

    python -m experiments.train --config=configs/ddpm/digits_guided.py --workdir=runs/digits_guided

The guide, a third as wide and trained for a quarter of the steps (`configs/ddpm/digits_weak.py`),
is trained first. `generation` draws by it, `classifier_free` as `configs/ddpm/digits.py` does,
`plain` without guidance: three Frechet distances of one network beside each other.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import no_argument
from configs.ddpm import digits

DRAWN = dict(type="generation", num_samples=1000, batch_size=100)


def get_config(arg: str | None = None) -> ConfigDict:
    no_argument(arg)
    config = digits.get_config()
    config.guide = dict(run="runs/digits_weak", config="configs/ddpm/digits_weak.py", ema="slow")
    config.sampling = dict(sampler="ddim", steps=20, autoguidance=1.5, ema="slow")
    config.evals = dict(
        samples=dict(type="samples"),
        generation=DRAWN,
        classifier_free={**DRAWN, "pred_kw": dict(autoguidance=1.0, guidance=1.25)},
        plain={**DRAWN, "pred_kw": dict(autoguidance=1.0)},
    )
    return config
