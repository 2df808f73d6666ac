"""A smaller and less trained version of the digits run: the guide of autoguidance.

python -m experiments.train --config=configs/ddpm/digits_weak.py --workdir=runs/digits_weak
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import no_argument
from configs.ddpm import digits


def get_config(arg: str | None = None) -> ConfigDict:
    no_argument(arg)
    config = digits.get_config()
    config.model.channels = 8
    config.train.steps = 160
    config.evals = dict(samples=dict(type="samples"))
    config.expected = {}
    return config
