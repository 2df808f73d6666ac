"""Released weights against CIFAR-10 by the papers' protocol: 50,000 samples, in InceptionV3's
features, against the 50,000 training images.

    python -m experiments.prepare_data --source=cifar10 --path=cifar-10-binary.tar.gz
    python -m experiments.evaluate --model=google/ddpm-cifar10-32 \\
        --config=configs/released/cifar10.py --workdir=runs/released_ddpm_cifar10 \\
        --config.features.weights=pt_inception-2015-12-05-6726825d.pth

Published: DDPM 3.17 (IS 9.46) by its own thousand steps; EDM's unconditional networks 1.97 (VP) and
1.98 (VE) by their own 18 (`--model=FILE --release=edm --config.features.quantise=edm`). Network,
task and optimizer are those of `configs/ddpm/cifar10.py`; a released model reads none of them.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import no_argument
from configs.ddpm import cifar10


def get_config(arg: str | None = None) -> ConfigDict:
    no_argument(arg)
    config = cifar10.get_config()
    config.features = dict(
        type="inception", weights="pt_inception-2015-12-05-6726825d.pth", protocol="tensorflow"
    )
    config.evals = dict(
        samples=dict(type="samples"),
        generation=dict(type="generation", num_samples=50_000, batch_size=500, groups=0),
    )
    return config
