"""The config of a run, as its workdir keeps it: `config.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffjax.runs.migrate import migrated
from diffjax.train.writer import replace_file

# Keys whose change does not change what a run computes up to a given step (what is done about
# losses that are not finite changes no step whose loss is).
RESUMABLE_KEYS = ("sampling", "evals", "expected", "features", "clip_scorer", "clip_guide",
        "factor_classifier", "mesh", "train.log_every", "train.checkpoint_every",
        "train.on_nonfinite", "train.keep", "train.keep_every",
        "train.steps_per_dispatch")  # fmt: skip


def read_config(workdir: Path) -> dict[str, Any]:
    """The `config.json` of a run, in today's sections (see `migrate`).

    Raises:
      ValueError: there is none, or it is no JSON.
    """
    file = workdir / "config.json"
    if not file.exists():
        raise ValueError(f"{workdir} holds no run (no config.json): train it first")
    try:
        config = json.loads(file.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON ({error}): put the config back, or remove it") from (
            error
        )
    if not isinstance(config, dict):
        raise ValueError(f"{file} holds no JSON object: put the config back, or remove it")
    return migrated(config)


def plain(config: Any) -> Any:
    """The config as JSON holds it: dicts, lists, numbers, strings."""
    if hasattr(config, "items"):  # a ConfigDict is no Mapping
        return {str(k): plain(v) for k, v in config.items()}
    if isinstance(config, list | tuple):
        return [plain(v) for v in config]
    return config


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def check_config(config: Mapping[str, Any], workdir: Path) -> None:
    """Refuses a workdir that another config has trained in.

    Raises:
      ValueError: the workdir's config differs in what is computed; says where.
    """
    if not (workdir / "config.json").exists():
        return
    here, there = flat(config), flat(read_config(workdir))
    differ = [
        f"{k} was {there.get(k, 'absent')!r}, is {here.get(k, 'absent')!r}"
        for k in sorted({*here, *there})
        if here.get(k) != there.get(k)
        and not any(k == free or k.startswith(free + ".") for free in RESUMABLE_KEYS)
    ]
    if differ:
        raise ValueError(
            f"{workdir} holds a run of another config: {'; '.join(differ)}. "
            "Take another --workdir, or the old settings"
        )


def check_workdir(config: Mapping[str, Any], workdir: Path) -> None:
    """Writes `config.json`, or refuses a workdir that another config has trained in.

    Raises:
      ValueError: see `check_config`.
    """
    check_config(config, workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    replace_file(workdir / "config.json", (json.dumps(config, indent=2) + "\n").encode())
