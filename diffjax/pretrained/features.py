"""The feature extractor that a config names: a classifier trained by a config of ours, or FID's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import jax
import numpy as np
from jax.sharding import Mesh

from diffjax.choices import build
from diffjax.evals.features import FeatureExtractor, from_classifier
from diffjax.evals.released_features import inception_features
from diffjax.fingerprints import to_host
from diffjax.interop.inception import load_inception
from diffjax.pretrained.clip import over_mesh
from diffjax.pretrained.reference import Reference
from diffjax.ranges import Amount, Width
from diffjax.runs import TrainedRun


@dataclass(frozen=True)
class ClassifierFeatures(Reference):
    """Config section `features`: the run of a classifier, see `Reference`.

    Attributes:
      quantise: how images become 8 bits first, see `evals.features`.
    """

    quantise: str = "round"
    section: ClassVar[str] = "features"
    released: ClassVar[tuple[str, ...]] = ()

    def load(self, mesh: Mesh | None = None) -> FeatureExtractor:
        """The extractor, its weights on every device of the mesh where one is given."""
        run = self.open()
        predict, variables = run.task.predict_fns(), over_mesh(run.variables, mesh)
        return from_classifier(predict, variables, run.workdir.name, quantise=self.quantise)


@dataclass(frozen=True)
class InceptionFeatures:
    """Config section `features=dict(type="inception", weights=...)`: FID's own network.

    Attributes:
      weights: a file, a folder or a name on the hub, see `load_inception`.
      protocol, resize, scale, width, logits_bias, batch_size: see `inception_features`.
      quantise, dequantise: see `evals.features`.
    """

    weights: str
    protocol: str = "pytorch_fid"
    resize: str | None = None
    scale: str | None = None
    width: Width = 2048
    logits_bias: bool = False
    batch_size: Amount = 64
    quantise: str = "round"
    dequantise: str = "none"

    def load(self, mesh: Mesh | None = None) -> FeatureExtractor:
        """The extractor, over all devices of this process, whatever the mesh of the run."""
        del mesh
        options = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "weights"}
        sharding, batch = over_local_devices(self.batch_size)
        options |= {"batch_size": batch, "sharding": sharding}
        return inception_features(load_inception(self.weights), **options)


FEATURES: dict[str, Any] = {"classifier": ClassifierFeatures, "inception": InceptionFeatures}


def over_local_devices(batch_size: int) -> tuple[jax.sharding.Sharding | None, int]:
    """The sharding of a batch over the devices of this process, and its size rounded up to fit
    them; None where there is one."""
    devices = jax.local_devices()
    if len(devices) == 1:
        return None, batch_size
    mesh = jax.sharding.Mesh(np.asarray(devices), ("data",))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    return rows, -(-batch_size // len(devices)) * len(devices)


def features_of_run(run: TrainedRun) -> FeatureExtractor:
    """The extractor of a trained classifier, its weights on the host: each of several processes
    then works by itself.

    Raises:
      ValueError: a run of another task.
    """
    predict = run.task.predict_fns()
    if "features" not in predict:
        raise ValueError(f"{run.workdir} is a run of task {run.kind!r}, not of a classifier")
    variables = jax.tree.map(to_host, run.variables)
    return from_classifier(predict, variables, run.workdir.name, channels=run.image_shape[2])


def make_features(section: Mapping[str, Any] | None, mesh: Mesh) -> FeatureExtractor | None:
    """The extractor of a config's `features` section, None where it has none.

    Args:
      mesh: of the run that is measured.

    Raises:
      ValueError: a wrong section, or weights that cannot be read.
    """
    if not section:
        return None
    return build(FEATURES, "features", {"type": "classifier", **section}).load(mesh)
