"""The feature extractor that a config names: a classifier trained by a config of ours, or FID's."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from diffjax.choices import build
from diffjax.evals.features import FeatureExtractor, from_classifier
from diffjax.evals.released_features import inception_features
from diffjax.fingerprints import to_host
from diffjax.interop.inception import load_inception
from diffjax.ranges import Amount, Width
from diffjax.runs.config import read_config
from experiments.assemble import Assembly
from experiments.prerequisites import finished_run, opened_run
from experiments.references import is_pinned
from experiments.settings import load_config, run_name


@dataclass(frozen=True)
class ClassifierFeatures:
    """Config section `features`.

    Attributes:
      config: the classifier's config file.
      run: in its place, the workdir of a classifier that is trained.
      ema: which average of its weights; None for the weights themselves.
      quantise: how images become 8 bits first, see `evals.features`.
      overrides: `a.b=value` changes of its config.
    """

    config: str | None = None
    run: str | None = None
    ema: str | None = None
    quantise: str = "round"
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.config is None) == (self.run is None):
            raise ValueError("features needs one of config (a classifier's) and run (its workdir)")
        if self.run is not None and self.overrides:
            raise ValueError("features.overrides are of a config, and not read with features.run")

    def load(self, runs: Path) -> FeatureExtractor:
        """The extractor, from `run`, or from `runs/<name>`; trained there first where it is not
        finished."""
        if self.config is None:
            assembly = opened_run(Path(str(self.run)), "features")
        else:
            assembly = finished_run(self.config, self.overrides, runs / run_name(self.config))
        name = assembly.workdir.name
        _, state, frozen = assembly.trained()
        variables = state.variables(frozen, self.ema)
        return from_classifier(assembly.task.predict_fns(), variables, name, quantise=self.quantise)

    def outline(self, runs: Path) -> FeatureExtractor:
        """The extractor that `load` will give, of shapes in place of weights: to try evaluators
        with, see `FeatureExtractor.shapes`. Nothing is trained."""
        if self.config is None:
            assembly = opened_run(Path(str(self.run)), "features")
        else:
            chosen = load_config(self.config, self.overrides)
            workdir = runs / run_name(self.config)
            assembly = Assembly(chosen, workdir, named=not is_pinned(self.config))
        predict, name = assembly.task.predict_fns(), assembly.workdir.name
        return from_classifier(predict, assembly.outline, name, quantise=self.quantise)


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

    def load(self, runs: Path | None = None) -> FeatureExtractor:
        """The extractor, over all devices of this process; nothing is looked for in `runs`."""
        del runs
        options = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "weights"}
        sharding, batch = over_local_devices(self.batch_size)
        options |= {"batch_size": batch, "sharding": sharding}
        return inception_features(load_inception(self.weights), **options)


FEATURES: dict[str, Any] = {"classifier": ClassifierFeatures, "inception": InceptionFeatures}


def over_local_devices(batch_size: int) -> tuple[jax.sharding.Sharding | None, int]:
    """How a batch lies over the devices of this process, and its size rounded up to fit them;
    None where there is one."""
    devices = jax.local_devices()
    if len(devices) == 1:
        return None, batch_size
    mesh = jax.sharding.Mesh(np.asarray(devices), ("data",))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    return rows, -(-batch_size // len(devices)) * len(devices)


def features_of_run(workdir: Path) -> FeatureExtractor:
    """The extractor of a trained classifier, its weights on the host: each of several processes
    then works by itself.

    Raises:
      ValueError: no run there, one of another task, or not trained yet.
    """
    config: Any = ConfigDict(read_config(workdir))
    # Nothing is trained: any batch that these devices can share will do.
    config.train.batch_size = jax.device_count() * config.train.get("grad_accum", 1)
    config.mesh = {"data": -1}
    assembly = Assembly(config, workdir)
    predict = assembly.task.predict_fns()
    if "features" not in predict:
        kind = assembly.config["task"].get("type")
        raise ValueError(f"{workdir} is a run of task {kind!r}, not of a classifier")
    _, state, frozen = assembly.trained()
    channels = assembly.task.image_shape[2]  # type: ignore[attr-defined]
    variables = jax.tree.map(to_host, state.variables(frozen, None))
    return from_classifier(predict, variables, workdir.name, channels=channels)


def make_features(assembly: Assembly) -> FeatureExtractor | None:
    """The extractor of the config's `features` section, None where it has none. The run of a
    classifier lies beside this one's."""
    section = assembly.reference("features")
    if not section:
        return None
    source = build(FEATURES, "features", {"type": "classifier", **section})
    return source.load(assembly.workdir.parent)


def outline_features(assembly: Assembly) -> FeatureExtractor | None:
    """The extractor of the config's `features` section by shape, where it is a classifier of ours,
    which may be trained only later; None for others."""
    section = assembly.reference("features")
    if not section or section.get("type", "classifier") != "classifier":
        return None
    source = build(FEATURES, "features", {"type": "classifier", **section})
    return source.outline(assembly.workdir.parent)
