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

_INT32, _LARGE = 2**31 - 1, 10**9
_SMALL = Ge(2.0**-126)  # less than that is 0 in float32

# Real numbers. None but `Reach` may be infinite.
Real = Annotated[float, Interval(ge=-_LARGE, le=_LARGE)]
Positive = Annotated[float, Interval(gt=0, le=_LARGE), _SMALL]
NonNegative = Annotated[float, Interval(ge=0, le=_LARGE)]
Rate = Annotated[float, Interval(gt=0, le=1000), _SMALL]
Images = Annotated[float, Interval(gt=0, le=1e12), _SMALL]  # of a training: many epochs of them
Guided = Annotated[float, Interval(ge=-1000, le=1000)]
Reach = Annotated[float, Interval(ge=0, le=float("inf"))]
Probability = Annotated[float, Interval(ge=0, le=1)]
Share = Annotated[float, Interval(gt=0, le=1)]
Beta = Annotated[float, Interval(gt=0, lt=1)]
Decay = Annotated[float, Interval(ge=0, lt=1)]  # at 1 nothing would be left, or nothing move
Percentile = Annotated[float, Interval(gt=0, le=100)]
Exponent = Annotated[float, Interval(ge=-80, le=80)]  # of e, in float32
Ratio = Annotated[float, Interval(gt=0, le=1024)]  # of a layer's width to another's

# Whole numbers.
Integer = Annotated[int, Interval(ge=-_INT32, le=_INT32)]
Seed = Annotated[int, Interval(ge=0, le=2**63 - 1)]
Whole = Annotated[int, Interval(ge=0, le=_INT32)]
Count = Annotated[int, Interval(ge=1, le=_INT32)]
Axis = Annotated[int, Interval(ge=-1, le=2**20)]  # of a mesh; -1 takes what is left
Workers = Annotated[int, Interval(ge=0, le=1024)]

# Sizes of networks.
Width = Annotated[int, Interval(ge=1, le=2**16)]  # channels, features, heads
MaybeWidth = Annotated[int, Interval(ge=0, le=2**16)]
Depth = Annotated[int, Interval(ge=1, le=1024)]
MaybeDepth = Annotated[int, Interval(ge=0, le=1024)]
Factor = Annotated[int, Interval(ge=1, le=1024)]
Times = Annotated[int, Interval(ge=0, le=1024)]
Octaves = Annotated[int, Interval(ge=0, le=32)]
Length = Annotated[int, Interval(ge=2, le=2**16)]  # of texts in tokens: two are the ends
Vocabulary = Annotated[int, Interval(ge=2, le=2**24)]
Classes = Annotated[int, Interval(ge=0, le=2**24)]

# Sizes of images, and of sets of them.
Pixels = Annotated[int, Interval(ge=1, le=2**15)]
MaybePixels = Annotated[int, Interval(ge=0, le=2**15)]
Grey = Annotated[int, Interval(ge=0, le=255)]
GreyLevels = Annotated[int, Interval(ge=2, le=2**16)]
Channels = Annotated[int, Interval(ge=1, le=4)]
Amount = Annotated[int, Interval(ge=1, le=2**24)]
MaybeAmount = Annotated[int, Interval(ge=0, le=2**24)]
Tiles = Annotated[int, Interval(ge=1, le=1000)]  # of a picture, along a side

# Of schedules and samplers.
Steps = Annotated[int, Interval(ge=1, le=10**5)]


class FloatType:
    """Marks the name of a floating-point type that networks compute in."""

    names = ("float32", "bfloat16", "float16", "float64")


class Rising:
    """Marks numbers of which none is less than the one before."""


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
    if isinstance(bound, Rising):
        return None if list(value) == sorted(value) else "in rising order"
    raise TypeError(f"{bound!r} declares no range that is known here")


def check_order(what: str, choice: Any, low: str, high: str) -> None:
    """Raises ValueError where the field `low` of a choice is not less than its field `high`."""
    least, most = getattr(choice, low), getattr(choice, high)
    if not least < most:
        raise ValueError(f"{what}.{low}={least} must be less than {what}.{high}={most}")


def outside(value: Any, bounds: Iterable[Any]) -> str | None:
    """The range, in words, that `value` must lie in and does not, by the metadata of an `Annotated`
    type; None where it is inside."""
    return next(filter(None, (_broken(value, bound) for bound in _each(bounds))), None)
