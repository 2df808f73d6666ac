"""The config of a run that is on disk, on the devices of this process."""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from diffjax.runs.config import plain, read_config
from diffjax.train import sharding


def config_of(workdir: Path) -> ConfigDict:
    """The config of a run, its mesh that of its training where there are as many devices.

    Raises:
      ValueError: no run there.
    """
    config = ConfigDict(read_config(workdir))
    try:
        sharding.make_mesh(**plain(config.get("mesh", {})))
    except ValueError:  # It was trained on other devices than these.
        config.mesh = {"data": -1}
    return config
