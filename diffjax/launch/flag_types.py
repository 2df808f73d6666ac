"""Flags and config values that are more than text: paths, seeds."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from diffjax.keys import SEEDS

# $$, $NAME or ${NAME}.
_VARIABLE = re.compile(r"\$(?:(\$)|(\w+)|\{([^{}]*)\})")


def expand(text: str) -> str:
    """A path (or a name that may be one) with `~`, `~user`, `$NAME` and `${NAME}` replaced; `$$` is
    a dollar sign.

    Raises:
      ValueError: a variable that is not set, or a user that does not exist.
    """

    def value(found: re.Match[str]) -> str:
        name = found[2] or found[3]
        if found[1]:
            return "$"
        if name not in os.environ:
            raise ValueError(
                f"${name} is not set in the environment: set it, or write $$ for a dollar sign"
            )
        return os.environ[name]

    home = os.path.expanduser(text)
    if home.startswith("~") and not Path(home).exists():
        user = home[1:].partition("/")[0]
        raise ValueError(f"there is no user {user!r} (./{home} is the file of that name)")
    return _VARIABLE.sub(value, home)


class PathParser(flags.ArgumentParser):
    """Of flags that are paths, or names that may be."""

    syntactic_help = "a path; ~ and $NAME are replaced"

    def parse(self, argument: str) -> str:
        """See `expand`."""
        return expand(argument)

    def flag_type(self) -> str:
        """For `--help`."""
        return "path"


def define_path(
    name: str,
    default: str | None,
    text: str,
    required: bool = False,
    flag_values: flags.FlagValues = flags.FLAGS,
) -> None:
    """Defines the flag `name`, a path: see `expand`."""
    flags.DEFINE(
        PathParser(), name, default, text, flag_values, flags.ArgumentSerializer(),
        required=required,
    )  # fmt: skip


def define_paths(
    name: str, default: Sequence[str], text: str, flag_values: flags.FlagValues = flags.FLAGS
) -> None:
    """Defines the flag `name`, a path, which may be given several times."""
    flags.DEFINE_multi(
        PathParser(), flags.ArgumentSerializer(), name, list(default), text, flag_values
    )


def define_seed(text: str, flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines `--seed`, 0 by default: see `diffjax.keys`."""
    flags.DEFINE_integer(
        "seed", 0, text, lower_bound=0, upper_bound=SEEDS - 1, flag_values=flag_values
    )


# Keys of a config, wherever they stand, whose text is a path or a name that may be one.
PATHS = ("clip", "config", "data_dir", "heads", "model", "path", "reference", "run", "vgg",
         "weights")  # fmt: skip


def expand_paths(section: Any) -> None:
    """`expand`s the paths of a config, or of another mapping, in place.

    Raises:
      ValueError: see `expand`; names the key.
    """
    for key, value in section.items():
        if hasattr(value, "items"):
            expand_paths(value)
        elif key in PATHS and isinstance(value, str):
            try:
                section[key] = expand(value)
            except ValueError as error:
                raise ValueError(f"{key}={value!r}: {error}") from None
