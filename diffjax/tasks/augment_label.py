"""What a network is told of the augmentation of its training images."""

from __future__ import annotations

from typing import Any

import flax.linen as nn

from diffjax.tasks.base import Batch


def told_of_augmentation(network: nn.Module, batch: Batch, train: bool) -> dict[str, Any]:
    """The keyword `extra [B, n]`, from `batch["augment"]`, for networks with `augment_dim` n > 0.

    Without it these take zeros, "nothing was done": right for samples and for evaluation batches,
    but a training batch that does not say is a mistake.

    Raises:
      ValueError: a network that is told nothing while training, or told what it cannot take.
    """
    wants = getattr(network, "augment_dim", 0)
    told = batch.get("augment")
    if told is None:
        if wants and train:
            raise ValueError(
                f"model.augment_dim={wants}, but training batches have no 'augment': add "
                "edm_augment to data.transforms, or set model.augment_dim=0"
            )
        return {}
    if told.shape[-1] != wants:
        raise ValueError(
            f"batches have an 'augment' of {told.shape[-1]} numbers, but the network takes "
            f"{wants}: set model.augment_dim={told.shape[-1]} (a U-Net), or take edm_augment out "
            "of the transforms"
        )
    return {"extra": told}
