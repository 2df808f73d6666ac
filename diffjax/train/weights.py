"""The weights of a checkpoint without the rest of its state: the trained parameters, or one average
alone, and what the forward pass changes; as arrays on the host, whatever mesh they were saved
from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
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
    folder: Path, step: int | None, ema: str | None, expected: Weights | None = None
) -> Weights | None:
    """The weights of a step (by default the latest good one) of the checkpoints in `folder`, in
    which nothing is changed; None where there are none.

    Args:
      ema: which average; None for the parameters themselves.
      expected: the shapes and dtypes that its parameters and its state must have.

    Raises:
      ValueError: no such step, no such average, weights of another network, or damaged files.
    """
    checkpoints = Checkpoints(folder, read_only=True)
    ask = partial(_asked, ema, expected)
    try:
        got = checkpoints.restore(ask) if step is None else checkpoints.read(step, ask)
    finally:
        checkpoints.close()
    if got is None:
        return None
    state, _ = got
    params = state["params"] if ema is None else state["ema"][ema]
    return Weights(int(state["step"]), params, state["model_state"])


def _asked(ema: str | None, expected: Weights | None, folder: Path) -> CheckpointArgs:
    """What is read of the state in `folder`."""
    try:
        tree: Any = ocp.StandardCheckpointHandler().metadata(epath.Path(folder)).tree
        held = {k: tree[k] for k in ("step", "params", "model_state")}
        averages = dict(tree["ema"])
    except Exception as error:
        raise Damaged(f"it does not say what it holds: {type(error).__name__}") from error
    if ema is not None:
        if ema not in averages:
            known = ", ".join(averages) or "none"
            raise ValueError(f"ema={ema!r} is not kept by this run; kept: {known}")
        held["ema"] = {ema: averages[ema]}
        del held["params"]
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(tuple(leaf.shape), leaf.dtype), held)
    if expected is not None:
        params = shapes["params"] if ema is None else shapes["ema"][ema]
        check_shapes(f"{folder}: params", params, expected.params)
        check_shapes(f"{folder}: model_state", shapes["model_state"], expected.model_state)
    on_host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
    return ocp_args.PyTreeRestore(item=shapes, restore_args=on_host, partial_restore=True)


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
