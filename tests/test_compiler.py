"""Compiler options and flags: what a version of XLA lacks is left out, and the rest is set."""

from __future__ import annotations

import re
from pathlib import Path

import jax
import pytest
import xla_flags

from diffjax.compiler import CPU_OPTIONS, compiler_options, once_options, supported

ROOT = Path(__file__).parents[1]


def test_an_option_that_is_not_known_is_left_out_and_the_others_are_kept():
    known = {"xla_backend_optimization_level": 0}
    assert supported({"xla_no_such_option": True, **known}) == known
    assert supported({"xla_no_such_option": True}) == {}


@pytest.mark.parametrize("options", [compiler_options, once_options])
def test_what_is_given_to_the_compiler_compiles(options):
    jax.jit(lambda x: x * 2.0, compiler_options=options()).lower(1.0).compile()
    assert options(), "the CPU options have gone from this version: measure it, then leave them out"


def test_a_flag_that_is_not_known_is_left_out_and_the_others_are_kept():
    known = "--xla_backend_optimization_level=0"
    assert xla_flags.accepted([known, "--xla_no_such_flag=1"]) == [known]


def test_the_suite_runs_under_flags_that_were_tried():
    assert set(xla_flags.quick().split()) <= set(xla_flags.WANTED)


def test_options_and_flags_have_one_place_each():
    """A name of XLA's elsewhere would be set without having been tried."""
    places = {"diffjax/compiler.py", "tests/xla_flags.py", "tests/test_compiler.py"}
    named = {
        path.relative_to(ROOT).as_posix()
        for room in ("diffjax", "experiments", "configs", "tests")
        for path in (ROOT / room).rglob("*.py")
        for name in re.findall(r"\bxla_(?!flags|force_host)\w+", path.read_text())
    }
    # Asks `supported`.
    assert named - places == {"tests/models/test_clip.py"}
    assert set(compiler_options()) <= set(CPU_OPTIONS)
