"""Weights by their name on the Hugging Face hub, through its cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diffjax.interop.files import WEIGHTS, read_json


def fetch(name: str, configs: Sequence[str]) -> Path:
    """The folder, in the hub's cache, of the model `owner/name`.

    The first of `WEIGHTS` that the model has is downloaded unless it is there already, and those
    of `configs` that it has. HF_HOME, HF_HUB_OFFLINE and HF_TOKEN are the hub's own settings.

    Raises:
      ValueError: no such model, nothing that can be read in it, or no network.
    """
    for file in WEIGHTS:
        weights = _download(name, file)
        if weights is None:
            continue
        if file.endswith(".index.json"):
            for part in set(read_json(weights).get("weight_map", {}).values()):
                _download(name, part)
        for config in configs:
            _download(name, config)
        return weights.parent
    raise ValueError(
        f"the hub's {name!r} holds none of {', '.join(WEIGHTS)}, or is offline and not in its "
        "cache: download it where there is a network, and give the folder"
    )


def _download(name: str, file: str) -> Path | None:
    """The cached file; None where the model lacks it, or where that cannot be known."""
    # Imported here: it takes a while, and local files do not need it.
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(name, file))
    except EntryNotFoundError:  # also: offline, and not in the cache
        return None
    except HFValidationError as error:
        raise ValueError(f"{name!r} is no name of the hub's: {error}") from error
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()
        raise ValueError(
            f"the hub has no {name!r} for us: {reason[0] if reason else type(error).__name__}"
        ) from error
