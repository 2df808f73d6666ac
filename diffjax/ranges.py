"""Ranges of numbers, declared beside the fields and parameters that a config fills.

    lr: Positive = 2e-4
    channel_mult: tuple[Factor, ...] = (1, 2, 2, 2)

They are annotations, which `diffjax.choices` reads when it builds a choice from a section. The
upper ends keep out what no machine holds and what float32 and int32 cannot say; nobody's use of a
field comes near them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from annotated_types import Ge, GroupedMetadata, Gt, Interval, Le, Lt, MultipleOf
from jax.typing import DTypeLike

_INT32, _FLOAT32 = 2**31 - 1, 1e30

# Real numbers.
Real = Annotated[float, Interval(ge=-_FLOAT32, le=_FLOAT32)]
Positive = Annotated[float, Interval(gt=0, le=_FLOAT32)]
NonNegative = Annotated[float, Interval(ge=0, le=_FLOAT32)]
Reach = Annotated[float, Interval(ge=0, le=float("inf"))]  # infinity is "everywhere"
Probability = Annotated[float, Interval(ge=0, le=1)]
Share = Annotated[float, Interval(gt=0, le=1)]
Decay = Annotated[float, Interval(ge=0, lt=1)]  # what is left, or left out: at 1 nothing moves
Percentile = Annotated[float, Interval(gt=0, le=100)]
Exponent = Annotated[float, Interval(ge=-100, le=100)]
LogSNR = Annotated[float, Interval(ge=-60, le=60)]

# Whole numbers.
Integer = Annotated[int, Interval(ge=-_INT32, le=_INT32)]
Seed = Annotated[int, Interval(ge=0, le=2**63 - 1)]
Whole = Annotated[int, Interval(ge=0, le=_INT32)]
Count = Annotated[int, Interval(ge=1, le=_INT32)]
Width = Annotated[int, Interval(ge=1, le=2**16)]  # channels, features, heads
Layers = Annotated[int, Interval(ge=1, le=1024)]
MaybeLayers = Annotated[int, Interval(ge=0, le=1024)]
Factor = Annotated[int, Interval(ge=1, le=1024)]
Pixels = Annotated[int, Interval(ge=1, le=2**15)]
Classes = Annotated[int, Interval(ge=0, le=2**24)]
Vocabulary = Annotated[int, Interval(ge=1, le=2**24)]
Batch = Annotated[int, Interval(ge=1, le=2**24)]
Tiles = Annotated[int, Interval(ge=1, le=1000)]  # of a picture, along a side
MaybeTiles = Annotated[int, Interval(ge=0, le=1000)]
Steps = Annotated[int, Interval(ge=1, le=10**5)]  # of a sampler, or of a schedule's table
Workers = Annotated[int, Interval(ge=0, le=1024)]


class FloatType:
    """Marks the name of a floating-point type that networks compute in."""

    names = ("float32", "bfloat16", "float16", "float64")


Dtype = Annotated[DTypeLike, FloatType()]


def _each(bounds: Iterable[Any]) -> Iterator[Any]:
    for bound in bounds:
        yield from bound if isinstance(bound, GroupedMetadata) else (bound,)


def _broken(value: Any, bound: Any) -> str | None:
    # Each is asked so that NaN, which compares with nothing, breaks it.
    if isinstance(bound, Gt):
        return None if value > bound.gt else f"greater than {bound.gt}"
    if isinstance(bound, Ge):
        return None if value >= bound.ge else f"at least {bound.ge}"
    if isinstance(bound, Lt):
        return None if value < bound.lt else f"less than {bound.lt}"
    if isinstance(bound, Le):
        return None if value <= bound.le else f"at most {bound.le}"
    if isinstance(bound, MultipleOf):
        return None if value % bound.multiple_of == 0 else f"a multiple of {bound.multiple_of}"
    if isinstance(bound, FloatType):
        return None if str(value) in bound.names else f"one of {', '.join(bound.names)}"
    raise TypeError(f"{bound!r} declares no range that is known here")


def outside(value: Any, bounds: Iterable[Any]) -> str | None:
    """What `value` must be and is not, by the metadata of an `Annotated` type; None where it is
    inside."""
    return next(filter(None, (_broken(value, bound) for bound in _each(bounds))), None)
