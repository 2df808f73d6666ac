"""Weights by their name on the Hugging Face hub, through its cache."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from diffjax.interop.files import WEIGHTS, is_index, shards_of


def locate(name: str | Path, download: Callable[[str], Path], example: str) -> Path:
    """`name` where it is a file or a folder; otherwise what `download` makes of `owner/name`.

    Raises:
      ValueError: it is neither; `example` shows what a name on the hub looks like.
    """
    if str(name) and Path(name).exists():  # "" would be the folder that one is in
        return Path(name)
    if is_hub_name(name):
        return download(str(name))
    raise ValueError(
        f"{name}: no such file or folder, and no name on the hub (owner/name, such as {example})"
    )


def is_hub_name(name: str | Path) -> bool:
    """Whether `name` has the form `owner/name`; anything else is never asked of the hub."""
    return isinstance(name, str) and name.count("/") == 1 and not name.startswith((".", "/", "~"))


def holds(name: str, file: str) -> bool:
    """Whether the model `owner/name` has the file, which is then in the hub's cache.

    Raises:
      ValueError: no such model, or no network.
    """
    return _download(name, file) is not None


def fetch_parts(name: str, index: str, parts: Mapping[str, Sequence[str]]) -> Path:
    """The folder, in the hub's cache, of a model `owner/name` of several parts.

    The file `index` is downloaded, of each part the small files named, and its weights where a
    `config.json` is among them.

    Raises:
      ValueError: as `fetch`.
    """
    found = _download(name, index)
    if found is None:
        raise ValueError(f"the hub's {name!r} holds no {index}, or is offline and not in its cache")
    for part, configs in parts.items():
        fetched = [_download(name, f"{part}/{config}") for config in configs]
        if "config.json" in configs and any(fetched):
            _fetch_weights(name, f"{part}/")
    return found.parent


def fetch(name: str, configs: Sequence[str]) -> Path:
    """The folder, in the hub's cache, of the model `owner/name`.

    The first of `WEIGHTS` that the model has is downloaded unless it is there already, and those
    of `configs` that it has. HF_HOME, HF_HUB_OFFLINE and HF_TOKEN are the hub's own settings.

    Raises:
      ValueError: no such model, nothing that can be read in it, or no network.
    """
    weights = _fetch_weights(name, "")
    for config in configs:
        _download(name, config)
    return weights.parent


def locate_autoencoder(name: str) -> Path:
    """The folder of an autoencoder: `name` is a folder of diffusers', of a pipeline or of its `vae`
    alone, or the name of either on the hub.

    Raises:
      ValueError: there is none.
    """

    def download(owner_name: str) -> Path:
        if not holds(owner_name, "model_index.json") and holds(owner_name, "config.json"):
            return fetch(owner_name, ("config.json",))
        return fetch_parts(owner_name, "model_index.json", {"vae": ("config.json",)})

    folder = locate(name, download, "stable-diffusion-v1-5/stable-diffusion-v1-5")
    return folder / "vae" if (folder / "vae").is_dir() else folder


def locate_encoder(name: str, tokenizer: Sequence[str]) -> Path:
    """The folder of a text encoder of transformers', itself or by its name on the hub; of the
    latter its weights, its config and the files `tokenizer` are downloaded.

    Raises:
      ValueError: there is none.
    """
    files = ("config.json", *tokenizer)
    return locate(name, lambda owner_name: fetch(owner_name, files), "google/t5-v1_1-base")


def _fetch_weights(name: str, under: str) -> Path:
    """The first of `WEIGHTS` that the model has `under` a folder, with its parts."""
    for file in WEIGHTS:
        weights = _download(name, f"{under}{file}")
        if weights is None:
            continue
        if is_index(weights):
            for part in shards_of(weights):
                _download(name, f"{under}{part}")
        return weights
    raise ValueError(
        f"the hub's {name!r} holds none of {', '.join(WEIGHTS[::2][:6])}, ..., or is offline and "
        "not in its cache: download it where there is a network, and give the folder"
    )


@functools.cache
def _reachable(endpoint: str) -> bool:
    """Whether the hub answers: asked once, since each download tries for half a minute."""
    from huggingface_hub.utils import get_session

    try:
        get_session().head(endpoint, timeout=10)
    except Exception:  # Of the hub's HTTP library, which is not the same in each of its versions.
        return False
    return True


def _download(name: str, file: str) -> Path | None:
    """The cached file; None where the model lacks it, or where that cannot be known."""
    # Imported here: it takes a while, and local files do not need it.
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

    try:
        offline = constants.HF_HUB_OFFLINE or not _reachable(constants.ENDPOINT)
        return Path(hf_hub_download(name, file, local_files_only=offline))
    except EntryNotFoundError:  # also: offline, and not in the cache
        return None
    except HFValidationError as error:
        raise ValueError(f"{name!r} is no name of the hub's: {error}") from error
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()
        raise ValueError(
            f"the hub has no {name!r} for us: {reason[0] if reason else type(error).__name__}"
        ) from error
