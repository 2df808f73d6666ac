"""Results and their protocols: one kind of number, one way to say that two are comparable."""

import ast
import json

import numpy as np
from import_graph import ROOT

from diffjax.results import Interval, Result, differing, extend, protocol, same_protocol

FILES = sorted(p for room in ("diffjax", "experiments") for p in (ROOT / room).rglob("*.py"))


def test_protocol_survives_json_and_ignores_order():
    a = protocol(num_samples=np.int64(10), steps=5, betas=(0.1, 0.2), seeds=(0, 1))
    b = protocol(betas=[0.1, 0.2], steps=5, seeds=[2], num_samples=10)
    assert same_protocol(json.loads(json.dumps(a)), b) and a["hash"] == b["hash"]
    assert a["seeds"] == [0, 1]
    endless = protocol(high=float("inf"), low=np.float32(-np.inf))
    assert json.loads(json.dumps(endless, allow_nan=False)) == endless


def test_protocols_differ_where_they_differ():
    a = protocol(steps=5, nfe=5, sampler="ddim")
    b = extend(a, steps=10, nfe=10, ema="slow")
    assert differing([a, b, a]) == {"steps": [5, 10], "nfe": [5, 10], "ema": [None, "slow"]}
    assert a["hash"] != b["hash"]
    assert not same_protocol(a, b)
    assert same_protocol(a, b, varied=("steps", "nfe", "ema"))
    assert not same_protocol(a, a, b) and same_protocol(a) and same_protocol()
    assert differing([protocol(pool=None), protocol()]) == {"pool": [None, None]}


def test_an_interval_is_a_value_and_its_two_ends():
    interval, how = Interval(0.5, 0.1, 0.3, 0.75, 20), protocol(steps=5)
    assert interval.half_width == 0.25 and Interval(0.5).half_width is None
    assert list(interval.results("share", how)) == [
        Result("share", 0.5, 0.1, how),
        Result("share_low", 0.3, None, how),
        Result("share_high", 0.75, None, how),
    ]
    assert list(Interval(0.5).results("share", how)) == [Result("share", 0.5, None, how)]


def test_there_is_one_kind_of_named_number():
    """No other class has a name, a value, its error and how it was measured."""
    found = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                fields = {
                    part.target.id
                    for part in node.body
                    if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
                }
                if {"name", "value", "std"} <= fields:
                    found.add((path.relative_to(ROOT).as_posix(), node.name))
    assert found == {("diffjax/results.py", Result.__name__)}


def test_protocols_are_compared_in_one_place():
    """What names the draw, and so may differ, is said once."""
    using = [p for p in FILES if "REPEATS" in p.read_text()]
    assert [p.name for p in using] == ["results.py"]
