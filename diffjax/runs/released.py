"""Released weights that a run keeps frozen and, being large, names instead of holding a copy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from diffjax.choices import pick
from diffjax.fingerprints import fingerprint
from diffjax.interop.autoencoder import load_autoencoder
from diffjax.interop.bert import load_bert
from diffjax.interop.clip import load_clip
from diffjax.interop.hub import fetch_parts, locate, locate_autoencoder, locate_encoder
from diffjax.interop.t5 import load_t5
from diffjax.interop.text_tower import load_text
from diffjax.runs.resolved import FrozenNetwork
from diffjax.task import Params


def _autoencoder(name: str, origin: Mapping[str, Any]) -> Params:
    return load_autoencoder(locate_autoencoder(name)).variables


def _text_encoder(name: str, origin: Mapping[str, Any]) -> Params:
    def download(owner_name: str) -> Any:
        return fetch_parts(owner_name, "model_index.json", {"text_encoder": ("config.json",)})

    folder = locate(name, download, "stable-diffusion-v1-5/stable-diffusion-v1-5")
    return load_text(folder / "text_encoder").variables


def _clip(name: str, origin: Mapping[str, Any]) -> Params:
    _, held = load_clip(name, origin.get("activation"))
    part = pick("part of a CLIP", origin.get("part"), held["params"])
    return {"params": held["params"][part]}


def _clip_image(name: str, origin: Mapping[str, Any]) -> Params:
    _, held = load_clip(name, origin.get("activation"))
    image = {kind: tree["image"] for kind, tree in held.items() if "image" in tree}
    return {kind: {"image": tree} for kind, tree in image.items()}


def _t5(name: str, origin: Mapping[str, Any]) -> Params:
    return load_t5(locate_encoder(name, ())).variables


def _bert(name: str, origin: Mapping[str, Any]) -> Params:
    return load_bert(locate_encoder(name, ())).variables


# By the key of an origin whose value is the weights' name.
READERS: dict[str, Callable[[str, Mapping[str, Any]], Params]] = {
    "autoencoder": _autoencoder,
    "text_encoder": _text_encoder,
    "clip": _clip,
    "clip_image": _clip_image,
    "t5": _t5,
    "bert": _bert,
}


def read_released(name: str, network: FrozenNetwork, expected: Params) -> Params:
    """The variables of a frozen network, read again from where they are released.

    Args:
      name: of the network, for errors.
      expected: the tree of those that are used; others, a projection's, are left out.

    Raises:
      ValueError: they cannot be had, or have changed.
    """
    kinds = [kind for kind in READERS if kind in network.origin]
    weights = network.origin[kinds[0]] if kinds else None
    if not isinstance(weights, str):
        raise ValueError(f"frozen.{name} has no file, and names no released weights")
    variables: Any = READERS[kinds[0]](weights, network.origin)
    held = variables if "params" in expected else variables["params"]
    arrays, paths = (flatten_dict(dict(tree), sep="/") for tree in (held, expected))
    lacks = [path for path in paths if path not in arrays]
    if lacks:
        raise ValueError(f"{weights} lacks {lacks[0]} of the frozen network {name}")
    kept = unflatten_dict({path: arrays[path] for path in paths}, sep="/")
    found = fingerprint(kept)
    if found != network.fingerprint:
        raise ValueError(
            f"{weights} has changed since the run was trained with it (weights "
            f"{network.fingerprint}, now {found}): put the old ones back"
        )
    return kept
