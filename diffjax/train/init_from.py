"""A run that begins from given weights: they take the place of freshly drawn ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from diffjax.choices import unknown
from diffjax.task import Params, Variables

# Collection ("params", "batch_stats", ...) -> tower or parameter -> arrays on the host.
Collections = Mapping[str, Mapping[str, Params]]


@dataclass(frozen=True)
class InitFrom:
    """Attributes:
    load: the given weights; called for each fresh state.
    origin: where they come from, for messages.
    only: towers (or other parameters of the top level) that begin from them, the others being
      drawn afresh; empty for all of the network.
    frozen: the names are those of frozen networks alone: a parameter may have the same name.
    widen: the network's first convolution, `conv_in`, may be shown further channels, which begin
      without effect: their weights are zero (Nichol et al. 2021, section 2.4).
    """

    load: Callable[[], Collections]
    origin: str
    only: tuple[str, ...] = ()
    frozen: bool = False
    widen: bool = False

    def __call__(self, variables: Variables) -> Variables:
        """`variables` with the given values in the places, and on the devices, of their own.

        Trained and frozen towers alike are filled, and the statistics that belong to them.

        Raises:
          ValueError: a name that either side lacks, a leaf too many or too few, another shape.
        """
        weights = self.load()
        params, frozen = dict(variables.params), dict(variables.frozen)
        trained = {} if self.frozen else params
        homes: list[tuple[str, dict[str, Any]]] = [("params", trained), ("params", frozen)]
        state = {k: dict(trees) for k, trees in dict(variables.model_state).items()}
        homes += list(state.items())
        names = self.only or tuple(dict.fromkeys([*weights.get("params", {}), *params, *frozen]))
        for name in names:
            if name not in trained and name not in frozen:
                raise unknown(f"tower of this run's network in init_from ({self.origin}):", name,
                              [*trained, *frozen])  # fmt: skip
            for collection, home in homes:
                if name not in home:
                    continue
                if name not in weights.get(collection, {}):
                    there = ", ".join(weights.get(collection, {})) or "nothing"
                    raise ValueError(
                        f"init_from: {self.origin} has no {collection}/{name}; it has {there} "
                        "(name what to take in init_from.only)"
                    )
                where = f"{collection}/{name}"
                home[name] = self._placed(where, home[name], weights[collection][name])
        return Variables(params, state if state else variables.model_state, frozen)

    def _placed(self, where: str, fresh: Params, weights: Params) -> Params:
        """The values of `weights` as arrays that lie as those of `fresh` do."""
        ours, theirs = _flat(where, fresh), _flat(where, weights)
        for lacks, has, who in ((theirs, ours, self.origin), (ours, theirs, "this run's network")):
            missing = [path for path in has if path not in lacks]
            if missing:
                more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
                raise ValueError(f"init_from: {who} lacks {missing[0]}{more}: the networks differ")
        if self.widen:
            theirs = {path: _widened(path, leaf, theirs[path]) for path, leaf in ours.items()}
        for path, leaf in ours.items():
            if np.shape(theirs[path]) != leaf.shape:
                raise ValueError(
                    f"init_from: {path} is {np.shape(theirs[path])} in {self.origin}, {leaf.shape} "
                    f"in this run's network: {_remedy(path, leaf, theirs[path])}"
                )

        def place(path: Any, leaf: jax.Array) -> jax.Array:
            value = np.asarray(theirs[_name(where, path)], leaf.dtype)
            # By index: a process fills the parts that its own devices hold.
            return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda i: value[i])

        return jax.tree_util.tree_map_with_path(place, fresh)


FIRST = "params/conv_in/kernel"


def _wider(path: str, fresh: Any, weights: Any) -> bool:
    """Whether a first convolution `[3, 3, C, D]` is given for one of more channels C."""
    ours, theirs = fresh.shape, np.shape(weights)
    same = len(ours) == len(theirs) == 4 and (*ours[:2], ours[3]) == (*theirs[:2], theirs[3])
    return path == FIRST and same and ours[2] > theirs[2]


def _widened(path: str, fresh: Any, weights: Any) -> Any:
    if not _wider(path, fresh, weights):
        return weights
    more = fresh.shape[2] - np.shape(weights)[2]
    return np.pad(np.asarray(weights), ((0, 0), (0, 0), (0, more), (0, 0)))


def _remedy(path: str, fresh: Any, weights: Any) -> str:
    if _wider(path, fresh, weights):
        return "set init_from.widen=True where it is shown further channels"
    return "make their `model` sections agree"


def chain(*sources: InitFrom | None) -> Callable[[Variables], Variables] | None:
    """Each of `sources` after the other, those that are None left out; None if all are."""
    present = [source for source in sources if source is not None]

    def init_from(variables: Variables) -> Variables:
        for one in present:
            variables = one(variables)
        return variables

    return init_from if present else None


def _name(where: str, path: Any) -> str:
    return "/".join(
        [where, *([jax.tree_util.keystr(path, simple=True, separator="/")] * bool(path))]
    )


def _flat(where: str, tree: Params) -> dict[str, Any]:
    return {_name(where, p): leaf for p, leaf in jax.tree_util.tree_leaves_with_path(tree)}
