"""What a run's own config may have executed: the installed configs, nothing else.

A config is Python. One that the user names is theirs to run, with the configs that it names in
turn. A run that is opened may have come from anywhere: where its `config.json` names a config, that
is a file of the installed `configs`, or the run that was trained from it is opened in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.settings import ROOT, run_name


def installed(config: str) -> str | None:
    """The absolute `file.py:argument` of an installed config; None for whatever lies elsewhere.

    The working directory is not looked into; links and `..` are followed first.
    """
    name, colon, argument = config.partition(":")
    file = (ROOT / name).resolve()
    inside = file.is_file() and file.is_relative_to((ROOT / "configs").resolve())
    return f"{file}{colon}{argument}" if inside else None


def is_pinned(config: str) -> bool:
    """Whether a config is named as `installed` names it: what it names in turn is installed too."""
    return installed(config) == config


def confined(name: str, section: Mapping[str, Any], workdir: Path) -> Mapping[str, Any]:
    """The section `name` of the `config.json` of `workdir`, which names another run's config, as it
    may be followed: with an installed config, or with the run alone.

    Raises:
      ValueError: another config, and the run is not there.
    """
    config = section.get("config")
    if not isinstance(config, str):
        return section
    found = installed(config)
    if found is not None:
        return {**section, "config": found}
    run = Path(section["run"]) if section.get("run") else workdir.parent / run_name(config)
    if not (run / "config.json").is_file():
        raise ValueError(
            f"{workdir}/config.json names {name}.config={config}, which is none of the installed "
            "configs: a run that is opened may execute no other file. If you trust it, train it "
            f"first: python -m experiments.train --config={config} --workdir={run}"
        )
    rest = {k: v for k, v in section.items() if k not in ("config", "overrides")}
    return {**rest, "run": str(run)}
