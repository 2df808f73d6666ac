"""Whatever a config says, a run is built of it or one line says what is wrong: its mutations by a
fixed seed, along the road of `experiments.train` up to where compute begins.

The oracle knows nothing of how ranges are declared: it lists the keys that may be negative,
infinite or large, and refuses everything else that lies outside.
"""

import contextlib
import copy
import math
import random
import signal
import time
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from ml_collections import ConfigDict
from test_configs import CONFIGS, LARGE, without_data  # noqa: F401 (a fixture)

from diffjax.assembly.outline import check_state
from diffjax.launch.settings import load_config
from diffjax.runs.config import plain

LIMIT = 20.0  # seconds of compute for one
CHEAP = (
    "configs/ddpm/digits.py",
    "configs/edm/digits.py",
    "configs/classifier/digits.py",
    "configs/vae/digits.py",
)
EACH_BY_DEFAULT, EACH = 12, 24

# Keys that may be negative, that may be infinite, and that may be beyond int32.
SIGNED = {"bias", "log_variance", "log_scale", "mean", "shift", "start", "end", "power", "gamma",
          "logsnr_min", "logsnr_max", "resample_taps", "frequencies", "where", "num_objects",
          "bounds", "guidance", "data", "fsdp", "tensor"}  # fmt: skip
RESUMABLE_KEYS = {"expected"}  # of the report, read by nobody else
INFINITE = {"guidance_high", "churn_max"}
LARGE_NUMBERS = {"seed", "half_life"}
SHARES = {"b1", "b2", "dropout", "drop", "prob",
          "final", "label_smoothing", "code_decay", "rescale", "validation"}  # fmt: skip
NUMBERS = (-1, -2, 0, -0.5, 0.5, 1.5, 10**9, 10**22, 2**31, 2**63, -(2**63), 1e308, 1e-300,
           math.nan, math.inf, -math.inf, True, None, "many", "", [], {}, [1], 10**400)  # fmt: skip
OTHERS = (None, 5, -1.5, True, "word", "", [], {}, [[]], {"type": "word"}, {"": 1}, [None])


def places(tree: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of everything below `tree`."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in pairs:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def misspelt(word: str, rng: random.Random) -> str:
    i = rng.randrange(len(word)) if word else 0
    return rng.choice((word[:i] + word[i + 1 :], word[:i] + "q" + word[i:], word[::-1] + "x"))


def mutate(tree: dict, rng: random.Random) -> tuple[str, Any]:
    """Changes one place of a config; says where, and what stands there now."""
    path = rng.choice([p for p in places(tree) if p != ("data", "cache")])
    at = tree
    for key in path[:-1]:
        at = at[key]
    key, old = path[-1], at[path[-1]]
    where = ".".join(map(str, path))
    act = rng.random()
    if isinstance(at, dict) and act < 0.1:
        del at[key]
        return f"{where} dropped", None
    if isinstance(at, dict) and act < 0.2:
        at[misspelt(key, rng)] = at.pop(key)
        return f"{where} misspelt", None
    if isinstance(old, str) and act < 0.6:
        at[key] = misspelt(old, rng)
    elif isinstance(old, dict | list) and act < 0.6:
        nested = [old, copy.deepcopy(old)] if isinstance(old, dict) else [*old, *old]
        at[key] = rng.choice((nested, {"a": old}, [old]))
    elif isinstance(old, int | float) and not isinstance(old, bool):
        at[key] = copy.deepcopy(rng.choice((*NUMBERS, -old, 1000 * old + 1)))
    else:
        at[key] = copy.deepcopy(rng.choice(OTHERS))
    return where, at[key]


def numbers(tree: Any, keys: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """Every number below `tree`, with the words on the way to it."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from numbers(value, (*keys, key))
    elif isinstance(tree, list):
        for value in tree:
            yield from numbers(value, keys)
    elif isinstance(tree, int | float) and not isinstance(tree, bool):
        yield keys, tree


def outside(tree: dict) -> list[str]:
    """The numbers of an accepted config that no key may have."""
    wrong = []
    for keys, value in numbers(tree):
        words = set(keys)
        infinite = isinstance(value, float) and math.isinf(value)
        bad = isinstance(value, float) and math.isnan(value)
        bad |= value < 0 and not words & SIGNED
        bad |= infinite and not words & INFINITE
        bad |= not infinite and abs(value) >= 2**31 and not words & LARGE_NUMBERS
        bad |= bool(words & SHARES) and not 0 <= value <= 1
        bad |= "seed" in words and not (isinstance(value, int) and 0 <= value < 2**63)
        if bad and not words & RESUMABLE_KEYS:
            wrong.append(f"{'.'.join(map(str, keys))}={value}")
    return wrong


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    def late(*_: Any) -> None:
        raise TimeoutError(f"not answered within {seconds} s")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def faults(path: str, count: int, seed: int, assembled: Any, workdir: Any) -> list[str]:
    """What went wrong with `count` mutations of a config."""
    found, intact = [], plain(load_config(path))
    rng = random.Random(zlib.crc32(f"{path} {seed}".encode()))
    for i in range(count):
        tree = copy.deepcopy(intact)
        where, value = mutate(tree, rng)
        said, begun = f"{path}, mutation {i}: {where} = {value!r:.60}", time.process_time()
        try:
            with within(LIMIT):
                config = ConfigDict(copy.deepcopy(tree))
                experiment = assembled(config, workdir)
                if path not in LARGE and where.split(".")[0] in ("data", "model", "task", "optim"):
                    check_state(experiment.run)
                experiment.check_evaluations()
        except ValueError as error:
            line = " ".join(str(error).split())
            if not 10 < len(line) < 1200:
                found.append(f"{said}: no line: {line!r:.300}")
        except Exception as error:
            found.append(f"{said}: {type(error).__name__}: {str(error)[:200]}")
        else:
            found += [f"{said}: accepted {wrong}" for wrong in outside(tree)]
        if time.process_time() - begun > LIMIT:
            found.append(f"{said}: {time.process_time() - begun:.0f} s")
    return found


@pytest.mark.parametrize("path", CHEAP)
def test_a_mutated_config_is_built_or_refused_in_one_line(path, tmp_path, without_data):  # noqa: F811
    found = faults(path, EACH_BY_DEFAULT, 0, without_data, tmp_path)
    assert not found, "\n".join(found)


@pytest.mark.heavy
@pytest.mark.parametrize("path", [getattr(c, "values", (c,))[0] for c in CONFIGS])
def test_a_thousand_mutations_of_all_configs(path, tmp_path, without_data):  # noqa: F811
    assert EACH * len(CONFIGS) >= 1000
    found = faults(path, EACH, 1, without_data, tmp_path)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", CHEAP)
def test_the_oracle_takes_the_configs_as_they_are(path):
    assert not outside(plain(load_config(path)))


def test_the_oracle_sees_what_lies_outside():
    wrong = dict(optim=dict(lr=-1, b2=1.5), seed=2**63, steps=10**22, width=math.nan, a=[math.inf])
    assert len(outside(wrong)) == 6
