"""Grids of cases: some of them every time, all of them with the heavy tests."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest


def every_pair(**axes: Iterable[Any]) -> pytest.MarkDecorator:
    """A test over the product of `axes`, argument -> values.

    Run every time are as many cases as it takes for any two values of two arguments to meet in one;
    the others are heavy.
    """
    cases = list(itertools.product(*axes.values()))
    pairs = [set(itertools.combinations(enumerate(case), 2)) for case in cases]
    missing, chosen = set[Any]().union(*pairs), set[int]()
    while missing:
        best = max(range(len(cases)), key=lambda i: len(pairs[i] & missing))
        chosen.add(best)
        missing -= pairs[best]
    params = [
        pytest.param(*case, marks=() if i in chosen else pytest.mark.heavy)
        for i, case in enumerate(cases)
    ]
    return pytest.mark.parametrize(",".join(axes), params)
