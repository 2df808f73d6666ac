"""The command lines of mains, each apart from the process's own."""

import importlib
import inspect
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from absl import flags

import experiments
from diffjax.launch import flag_types

FOLDER = Path(experiments.__file__).resolve().parent


def flags_of(module, monkeypatch) -> flags.FlagValues:
    """What `module.define_flags()` defines, as flags that nothing else reads."""
    values = flags.FlagValues()
    defined = {
        name: partial(make, flag_values=values)
        for name, make in vars(flags).items()
        if name.startswith("DEFINE")
    }
    with monkeypatch.context() as patch:
        # absl's own, and ours of `flag_types`, where a main and what it calls look them up.
        for name, made in list(vars(module).items()):
            if name == "flags":
                patch.setattr(module, name, SimpleNamespace(**defined, FLAGS=values))
            elif getattr(made, "__module__", "") == flag_types.__name__ and "flag_values" in (
                inspect.signature(made).parameters
            ):
                patch.setattr(module, name, partial(made, flag_values=values))
        if hasattr(module, "distributed"):
            patch.setattr(module.distributed, "flags", SimpleNamespace(**defined))
        module.define_flags()
    return values


def mains() -> list[str]:
    """The modules of `experiments` that have a command line."""
    files = [f for f in FOLDER.rglob("*.py") if "def define_flags" in f.read_text()]
    return [".".join(f.relative_to(FOLDER.parent).with_suffix("").parts) for f in sorted(files)]


def module_of(name: str):
    """The module called `name`."""
    return importlib.import_module(name)
