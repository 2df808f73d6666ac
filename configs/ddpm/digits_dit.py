"""The digits run with a small DiT in the U-Net's place.

python -m experiments.train --config=configs/ddpm/digits_dit.py --workdir=runs/digits_dit
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import no_argument
from configs.ddpm import digits


def get_config(arg: str | None = None) -> ConfigDict:
    no_argument(arg)
    config = digits.get_config()
    config.model = dict(type="dit", width=128, depth=4, heads=4, patch=2)
    return config
