"""Environment and command of a run: written once by a main, shown by the report."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax

from diffjax.train.writer import replace_file

_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "scipy")


def describe(command: str = "") -> dict[str, Any]:
    """Versions, devices and commit of this process, and the `command` line that started it."""
    devices = Counter(device.device_kind for device in jax.devices())
    return {
        "command": command,
        "devices": ", ".join(f"{n} x {kind}" for kind, n in devices.items()),
        "platform": jax.default_backend(),
        "processes": jax.process_count(),
        "cpu_cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "commit": _commit(),
    }


def command_line(module: str, argv: list[str] | None = None) -> str:
    """`python -m module` with the arguments of this process, as one would type it."""
    arguments = sys.argv[1:] if argv is None else argv
    return f"python -m {module} {shlex.join(arguments)}".strip()


def write(workdir: str | os.PathLike[str], command: str) -> None:
    """Leaves `environment.json` in `workdir`."""
    data = json.dumps(describe(command), indent=1) + "\n"
    replace_file(Path(workdir) / "environment.json", data.encode())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    """The commit of the code that runs, marked when files differ from it; "" outside git."""
    root = Path(__file__).parent
    try:
        git = ["git", "-C", str(root)]
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], **_QUIET)
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], **_QUIET)
    except (OSError, subprocess.SubprocessError):
        return ""
    if head.returncode:
        return ""
    return head.stdout.strip() + (" with local changes" if changed.stdout.strip() else "")


_QUIET: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 10, "check": False}
