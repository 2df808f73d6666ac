"""Configs from files and command lines: `configs/x.py:arg --config.train.steps=100`."""

from __future__ import annotations

import ast
import importlib.util
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from diffjax.choices import said, unknown
from diffjax.launch.flag_types import expand_paths


def _installed() -> Path:
    """The folder that the installed package `configs` lies in."""
    spec = importlib.util.find_spec("configs")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).resolve().parent.parent


ROOT = _installed()
PREFIX = "--config."


def load_config(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """The config of a file, with `a.b=value` overrides applied in order.

    Args:
      path: `file.py` or `file.py:argument`, relative to the working directory or to the checkout.
      overrides: `train.steps=100`; a value is read as a Python literal where it is one.

    Raises:
      ValueError: no such file, or an override that does not fit.
    """
    name, _, arg = path.partition(":")
    candidates = [Path(name), ROOT / name]
    file = next((c for c in candidates if c.is_file()), None)
    if file is None:
        raise ValueError(f"--config={name}: no such file (looked in . and {ROOT})")
    spec = importlib.util.spec_from_file_location(f"config_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config(arg or None)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"--config={name}: {_where(error, file)}") from error
    if not isinstance(config, ConfigDict):
        raise ValueError(f"--config={name}: get_config gives no ConfigDict but {said(config)}")
    for override in overrides:
        apply_override(config, override)
    expand_paths(config)
    return config


def run_name(config: str) -> str:
    """The name of a run of a config file: of `configs/classifier/digits.py`,
    `classifier_digits`."""
    return "_".join(Path(config.partition(":")[0]).with_suffix("").parts[-2:])


def _where(error: Exception, file: Path) -> str:
    """The error in a config file, and in which line of it."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: SyntaxError: {error.msg}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file)]
    line = f"line {lines[-1]}: " if lines else ""
    return f"{line}{type(error).__name__}: {error}"


def apply_override(config: ConfigDict, override: str) -> None:
    """`a.b.c=value` onto the config; a number keeps the kind that the config gave it.

    A new key is let in where a section may take it: the part that is built from the section
    refuses what it does not know.
    """
    path, equals, text = override.partition("=")
    if not equals:
        raise ValueError(f"--config.{override} has no value: write --config.{override}=value")
    *parents, key = path.split(".")
    section: Any = config
    for i, name in enumerate(parents):
        if name not in section:
            raise unknown(f"config key {'.'.join(parents[: i + 1])!r}:", name, section)
        section = section[name]
        if not isinstance(section, ConfigDict):
            raise ValueError(f"--config.{path}: {'.'.join(parents[: i + 1])} is not a section")
    if not parents and key not in section:
        raise unknown("config key", key, section)
    value = _literal(text)
    old = section.get(key)
    if isinstance(old, ConfigDict):
        raise ValueError(f"--config.{path} is a section: set one of {', '.join(old)}")
    if isinstance(old, bool) and not isinstance(value, bool):
        raise ValueError(f"--config.{path}={text!r}: expected true or false")
    if isinstance(old, int | float) and not isinstance(old, bool):
        if not isinstance(value, int | float) and value is not None:
            raise ValueError(f"--config.{path}={text!r}: expected a number like {old}")
        if isinstance(old, float) and isinstance(value, int):
            value = float(value)
        if isinstance(old, int) and isinstance(value, float):
            if not value.is_integer():
                raise ValueError(f"--config.{path}={text!r}: expected a whole number like {old}")
            value = int(value)
    if isinstance(old, str) and value is not None and not isinstance(value, str):
        value = text
    with config.unlocked(), section.ignore_type():
        section[key] = value


def _literal(text: str) -> Any:
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def assignments(options: Sequence[str]) -> dict[str, Any]:
    """`["steps=20"]` of a repeated `--set` flag as `{"steps": 20}`."""
    found = {}
    for option in options:
        name, equals, text = option.partition("=")
        if not equals:
            raise ValueError(f"--set={option} has no value: write --set={option}=value")
        found[name] = _literal(text)
    expand_paths(found)
    return found
