"""The weights of a checkpoint without the rest of its state: the trained parameters, or one average
alone, and what the forward pass changes; as arrays on the host, whatever mesh they were saved
from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict
from orbax.checkpoint import args as ocp_args
from orbax.checkpoint.args import CheckpointArgs

from diffjax.task import Params
from diffjax.train.checkpoint import Checkpoints, Damaged


class Weights(NamedTuple):
    """Attributes:
    step: of the checkpoint.
    params: the trained parameters or the average.
    model_state: see `TrainState`.
    """

    step: int
    params: Params
    model_state: Params


def read_weights(
    folder: Path, step: int | None, ema: str | None, expected: Weights
) -> Weights | None:
    """The weights of a step (by default the latest good one) of the checkpoints in `folder`, in
    which nothing is changed; None where there are none.

    Args:
      ema: which average; None for the parameters themselves.
      expected: of what shapes and dtypes its parameters and its state are.

    Raises:
      ValueError: no such step, no such average, weights of another network, or damaged files.
    """
    checkpoints = Checkpoints(folder, read_only=True)
    ask = partial(_restore_args, ema, expected)
    try:
        got = checkpoints.restore(ask) if step is None else checkpoints.read(step, ask)
    finally:
        checkpoints.close()
    if got is None:
        return None
    state, _ = got
    found = Weights(int(state["step"]), _home(state, ema), state["model_state"])
    where = f"{folder}/{found.step}/state"
    check_shapes(f"{where}: params", found.params, expected.params)
    check_shapes(f"{where}: model_state", found.model_state, expected.model_state)
    return found


def _home(state: Mapping[str, Any], ema: str | None) -> Any:
    return state["params"] if ema is None else state["ema"][ema]


def _restore_args(ema: str | None, expected: Weights, folder: Path) -> CheckpointArgs:
    """Arguments that restore a part of the state in `folder`, which has it all."""
    held = _names(folder)
    averages = sorted({name[1] for name in held if name[0] == "ema" and len(name) > 2})
    if ema is not None and ema not in averages:
        known = ", ".join(averages) or "none"
        raise ValueError(f"ema={ema!r} is not kept by this run; kept: {known}")
    params = {"params": expected.params} if ema is None else {"ema": {ema: expected.params}}
    item = {"step": np.int32(0), "model_state": expected.model_state, **params}
    under = {("params",) if ema is None else ("ema", ema), ("model_state",)}
    have = {name for name in held for top in under if name[: len(top)] == top != name}
    want = {tuple(path.split("/")) for path in flatten_dict(item, sep="/")} - {("step",), *under}
    for name in sorted(have ^ want):
        lacks, has = ("the checkpoint", "the network") if name in want else (
            "the network as it was built", "the checkpoint")  # fmt: skip
        raise ValueError(
            f"{folder}: {'/'.join(name)} is in {has} and not in {lacks}: it is another network's"
        )
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), item)
    on_host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
    return ocp_args.PyTreeRestore(item=shapes, restore_args=on_host, partial_restore=True)


def _names(folder: Path) -> set[tuple[str, ...]]:
    """The paths of a saved state's arrays, from Orbax's list of them: its own reader of the list
    opens every array, those of the optimizer too.

    Raises:
      Damaged: it is no such list.
    """
    try:
        listed = json.loads((folder / "_METADATA").read_bytes())["tree_metadata"]
        return {tuple(str(k["key"]) for k in e["key_metadata"]) for e in listed.values()}
    except Exception as error:
        raise Damaged(f"it does not say what it holds: {type(error).__name__}") from error


def check_shapes(what: str, found: Params, expected: Params) -> None:
    """Refuses arrays (or shapes) that are not those of a network.

    Raises:
      ValueError: a leaf too many or too few, or of another shape or dtype; names it.
    """
    have, want = _outline(what, found), _outline(what, expected)
    for path in (*want, *have):
        if have.get(path) != want.get(path):
            raise ValueError(
                f"{path} is {have.get(path, 'missing')}, but the network as it was built has "
                f"{want.get(path, 'none')}: it is another network's"
            )


def _outline(what: str, tree: Params) -> Mapping[str, str]:
    return {
        f"{what}/{jax.tree_util.keystr(path, simple=True, separator='/')}": (
            f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"
        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
