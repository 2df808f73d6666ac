"""Sections of a config that name another network, a run's or a released one, and what they may have
executed: the installed configs, nothing else.

A config is Python. One that the user names is theirs to run, with the configs that it names in
turn. A run that is opened may have come from anywhere: where its `config.json` names a config, that
is a file of the installed `configs`, or the run that was trained from it is opened in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from diffjax.launch import distributed
from diffjax.launch.settings import ROOT, run_name
from diffjax.runs import TrainedRun, open_run
from diffjax.runs.config import read_config


@dataclass(frozen=True)
class Reference:
    """Attributes:
    run: a workdir; by default, with `config`, the one beside this run's of the config's name.
    config: the config file that a missing or unfinished run is trained from.
    overrides: `a.b=value` changes of it.
    ema: which average of the run's weights; None for the weights themselves.
    section: its name.
    released: the fields that name released weights instead.
    whole: whether the run must be finished.
    """

    run: str | None = None
    config: str | None = None
    overrides: tuple[str, ...] = ()
    ema: str | None = None
    section: ClassVar[str]
    released: ClassVar[tuple[str, ...]]
    whole: ClassVar[bool] = True

    def __post_init__(self) -> None:
        named = [name for name in self.released if getattr(self, name) is not None]
        of_run = self.run is not None or self.config is not None
        if of_run + len(named) != 1:
            others = "".join(f" and {name} (released weights)" for name in self.released)
            raise ValueError(
                f"{self.section} needs one of run (a workdir, or the config that one is trained "
                f"from){others}"
            )
        if self.ema is not None and not of_run:
            raise ValueError(f"{self.section}.ema is not read with {self.section}.{named[0]}")
        if self.overrides and self.config is None:
            raise ValueError(
                f"{self.section}.overrides are of a config, and not read without "
                f"{self.section}.config"
            )

    @property
    def origin(self) -> str:
        """The name of its weights, for messages."""
        names = ("run", "config", *self.released)
        return str(next(v for v in (getattr(self, n) for n in names) if v is not None))

    def open(self, step: int | None = None) -> TrainedRun:
        """The run that it names, which is there: see `diffjax.assembly.stages`.

        Raises:
          ValueError: there is none, or it is damaged, or holds no such average.
        """
        if self.run is None:
            raise ValueError(f"{self.section} names no run: give {self.section}.run, a workdir")
        check_there(self.section, Path(self.run), self.whole)
        return open_run(Path(self.run), step, self.ema)


def check_there(section: str, workdir: Path, finished: bool = False) -> None:
    """Raises ValueError where a section names a workdir without a run (or a `finished` one)."""
    if not distributed.by_first(lambda: (workdir / "config.json").exists()):
        raise ValueError(
            f"{section}.run={workdir} holds no run: train it, or name the config file "
            f"that it is to be trained from in {section}.config"
        )
    if finished and not is_finished(workdir):
        raise ValueError(
            f"{section}.run={workdir} is not finished: go on with it, or name its config "
            f"file in {section}.config"
        )


def is_finished(workdir: Path) -> bool:
    """Whether the last step of the run in `workdir` is on disk."""
    return distributed.by_first(lambda: _is_finished(workdir))


def _is_finished(workdir: Path) -> bool:
    if not (workdir / "config.json").exists():
        return False
    section = read_config(workdir).get("train")
    steps = section.get("steps") if isinstance(section, Mapping) else None
    return (workdir / "checkpoints" / str(steps)).is_dir()


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


def followed(
    name: str, section: Mapping[str, Any], workdir: Path, named: bool
) -> Mapping[str, Any]:
    """The section `name` of the run in `workdir` as it may be followed, its `run` filled in.

    Args:
      named: whether it is of a config file that the user named.

    Raises:
      ValueError: see `confined`.
    """
    section = section if named else confined(name, section, workdir)
    if section.get("run") or not isinstance(section.get("config"), str):
        return section
    return {**section, "run": str(workdir.parent / run_name(section["config"]))}


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
