"""Optimizers and learning-rate schedules, by configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from optax.contrib import MuonDimensionNumbers

from diffjax.choices import construct, unknown
from diffjax.ranges import Decay, NonNegative, Positive, Probability, Rate, Real, Whole

OPTIMIZERS = ("adam", "adamw", "sgd", "lion", "muon")
DECAYS = ("constant", "cosine", "linear", "rsqrt")


@dataclass(frozen=True)
class Optimizer:
    """Choices of the optimizer.

    Attributes:
      type: adam, adamw, sgd (with momentum b1), lion or muon (of momentum b1 for kernels, each
        orthogonalised as the matrix of what it reduces and what it gives, with updates as large
        as Adam's; NAdam with b1 and b2 for all else; Liu et al. 2025, "Muon is scalable").
      lr: peak learning rate.
      decay: constant, cosine (to `final` at the last step), linear, or rsqrt after warm-up.
      warmup_steps: linear from 0.
      final: learning rate at the end as a share of lr, for cosine and linear.
      weight_decay: decoupled, on matrices and kernels only (no bias, scale or embedding table;
        big_vision's rule).
      clip_norm: global gradient norm, or None for no clipping.
      bounds: (parameter's name, least, greatest) of parameters kept in a range after every update,
        as CLIP keeps its `logit_scale` at most ln 100.
      parts: name of the parameters' top level -> choices that are other for what is under it, such
        as `{"discriminator": {"lr": 1e-4, "b1": 0.5}}`. Norms are clipped part by part.
      decay_tables: adamw and lion decay tables of embeddings and of positions too: all that is
        neither a gain nor a bias (Radford et al. 2021, section 2.5; open_clip's matrices).
    """

    type: str = "adam"
    lr: Rate = 2e-4
    decay: str = "constant"
    warmup_steps: Whole = 0
    final: Probability = 0.0
    b1: Decay = 0.9
    b2: Decay = 0.999
    eps: NonNegative = 1e-8
    weight_decay: NonNegative = 0.0
    clip_norm: Positive | None = None
    bounds: tuple[tuple[str, Real, Real], ...] = ()
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    decay_tables: bool = False

    def __post_init__(self) -> None:
        for name in self.parts:
            self.part(name)
        for bound in self.bounds:
            if len(bound) != 3 or not bound[1] <= bound[2]:
                raise ValueError(f"optim.bounds holds {bound}; each is (name, least, greatest)")
        if self.type not in OPTIMIZERS:
            raise ValueError(f"optim.type={self.type!r} is unknown; known: {', '.join(OPTIMIZERS)}")
        if self.decay not in DECAYS:
            raise ValueError(f"optim.decay={self.decay!r} is unknown; known: {', '.join(DECAYS)}")
        if self.weight_decay and self.type in ("adam", "sgd"):
            raise ValueError(
                f"optim.weight_decay={self.weight_decay} is not read by optim.type={self.type!r}: "
                "use adamw, lion or muon"
            )
        if self.decay_tables and not (self.weight_decay and self.type in ("adamw", "lion")):
            raise ValueError(
                f"optim.decay_tables=True is not read by optim.type={self.type!r} with "
                f"weight_decay={self.weight_decay}: use adamw or lion, and a weight_decay above 0"
            )

    def part(self, name: str) -> Optimizer:
        """The choices of the part called `name`; "" is what no part names.

        Raises:
          ValueError: a key or value that an optimizer has not.
        """
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del own["parts"]
        changes = self.parts[name] if name else {}
        return construct(Optimizer, f"optim.parts.{name}", {**own, **changes}, ("parts",))


def learning_rate(choice: Optimizer, steps: int) -> optax.Schedule:
    """Learning rate as a function of the update's number (from 0)."""
    warmup = choice.warmup_steps
    rest = max(steps - warmup, 1)
    if choice.decay == "cosine":
        after = optax.cosine_decay_schedule(choice.lr, rest, alpha=choice.final)
    elif choice.decay == "linear":
        after = optax.linear_schedule(choice.lr, choice.lr * choice.final, rest)
    elif choice.decay == "rsqrt":
        shift = max(warmup, 1)

        def rsqrt(count: Any) -> Any:
            # Joined schedules are also asked for counts before their own beginning.
            return choice.lr * (shift / (jnp.maximum(count, 0) + shift)) ** 0.5

        after = rsqrt
    else:
        after = optax.constant_schedule(choice.lr)
    if not warmup:
        return after
    # Update 0 already moves: a rate of exactly 0 would waste it.
    ramp = optax.linear_schedule(choice.lr / warmup, choice.lr, max(warmup - 1, 1))
    return optax.join_schedules([ramp, after], [warmup])


def weight_decay_mask(params: Any, tables: bool = False) -> Any:
    """Weight-decay mask, True at the leaves called `kernel`, with `tables` also `table` and
    `positions`, not biases or scales. The name says it where the rank cannot: a bias of scanned
    layers is a matrix."""
    names = ("kernel", "table", "positions") if tables else ("kernel",)
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jax.tree_util.keystr(path[-1:], simple=True) in names, params
    )


def orthogonalised(params: Any) -> Any:
    """Axes of each kernel that make a matrix, None for what is none: the last is what it gives,
    the one before and a convolution's window what it reduces; others count layers."""

    def axes(kernel: bool, leaf: Any) -> MuonDimensionNumbers | None:
        if not kernel or leaf.ndim < 2:
            return None
        window = (0, 1, 2) if leaf.ndim == 4 else (leaf.ndim - 2,)
        return MuonDimensionNumbers(window, (leaf.ndim - 1,))

    return jax.tree.map(axes, weight_decay_mask(params), params)


def make_optimizer(choice: Optimizer, steps: int) -> optax.GradientTransformation:
    """The optax transformation of a run of `steps` updates.

    Raises:
      ValueError: at init, a part or a bound of a name that no parameter has.
    """
    if not choice.parts:
        return _single(choice, steps)
    made: dict[Hashable, Any] = {
        name: _single(choice.part(name), steps) for name in ("", *choice.parts)
    }

    def labels(params: Any) -> Any:
        for name in choice.parts:
            if name not in params:
                raise unknown("part of the parameters in optim.parts:", name, params)
        return {
            name: jax.tree.map(lambda _, n=name: n if n in choice.parts else "", tree)
            for name, tree in params.items()
        }

    return optax.partition(made, labels)


def _single(choice: Optimizer, steps: int) -> optax.GradientTransformation:
    """One transformation of all that it is given."""
    rate = learning_rate(choice, steps)
    mask = partial(weight_decay_mask, tables=choice.decay_tables)
    if choice.type == "adam":
        inner = optax.adam(rate, b1=choice.b1, b2=choice.b2, eps=choice.eps)
    elif choice.type == "adamw":
        inner = optax.adamw(
            rate, choice.b1, choice.b2, choice.eps, weight_decay=choice.weight_decay, mask=mask
        )
    elif choice.type == "lion":
        inner = optax.lion(rate, choice.b1, choice.b2, weight_decay=choice.weight_decay, mask=mask)
    elif choice.type == "muon":
        inner = optax.contrib.muon(
            rate,
            beta=choice.b1,
            eps=choice.eps,
            weight_decay=choice.weight_decay,
            adam_b1=choice.b1,
            adam_b2=choice.b2,
            muon_weight_dimension_numbers=orthogonalised,
            consistent_rms=0.2,
        )
    else:
        inner = optax.sgd(rate, momentum=choice.b1)
    parts: list[optax.GradientTransformation] = [inner]
    if choice.clip_norm is not None:
        parts.insert(0, optax.clip_by_global_norm(choice.clip_norm))
    if choice.bounds:
        parts.append(bounded({name: (low, high) for name, low, high in choice.bounds}))
    return optax.chain(*parts) if len(parts) > 1 else inner


def bounded(bounds: Mapping[str, tuple[float, float]]) -> optax.GradientTransformation:
    """Cuts updates so that parameters of these names end inside their (least, greatest).

    Unlike a clip inside the loss it leaves the gradient alone, so a parameter comes back.

    Raises:
      ValueError: at init, a name that no parameter has.
    """

    def name(path: Any) -> str:
        return jax.tree_util.keystr(path[-1:], simple=True)

    def init(params: Any) -> optax.EmptyState:
        names = {name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)}
        for bound in bounds:
            if bound not in names:
                raise unknown("parameter in optim.bounds:", bound, names)
        return optax.EmptyState()

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        def cut(path: Any, u: Any, p: Any) -> Any:
            if name(path) not in bounds:
                return u
            return jnp.clip(p + u, *bounds[name(path)]) - p

        return jax.tree_util.tree_map_with_path(cut, updates, params), state

    return optax.GradientTransformation(init, update)
