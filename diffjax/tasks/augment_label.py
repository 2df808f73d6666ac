"""Augmentation labels: which augmentation a training image went through (Karras et al. 2022,
appendix F.2)."""

from __future__ import annotations

from typing import Any

import flax.linen as nn

from diffjax.task import Batch


def augment_labels(network: nn.Module, batch: Batch, train: bool) -> dict[str, Any]:
    """The keyword `augment_labels [B, n]`, from `batch["augment"]`, for networks with `augment_dim`
    n > 0.

    Without it these take zeros, "nothing was done": right for samples and for evaluation batches,
    but a training batch that does not say is a mistake.

    Raises:
      ValueError: a network that is given none while training, or given what it cannot take.
    """
    wants = getattr(network, "augment_dim", 0)
    augment = batch.get("augment")
    if augment is None:
        if wants and train:
            raise ValueError(
                f"model.augment_dim={wants}, but training batches have no 'augment': add "
                "edm_augment to data.transforms, or set model.augment_dim=0"
            )
        return {}
    if augment.shape[-1] != wants:
        raise ValueError(
            f"batches have an 'augment' of {augment.shape[-1]} numbers, but the network takes "
            f"{wants}: set model.augment_dim={augment.shape[-1]} (a U-Net), or take edm_augment "
            "out of the transforms"
        )
    return {"augment_labels": augment}
