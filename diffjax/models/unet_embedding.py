"""The embedding of a U-Net: noise level, augmentation, class, vector and pooled context, summed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.models.conditioning import Conditioning
from diffjax.nn.embeddings import (
    LabelTable,
    NoiseMLP,
    fill_label,
    fourier,
    fourier_frequencies,
    sinusoid,
)
from diffjax.nn.initialisers import Init
from diffjax.nn.linear import Dense
from diffjax.nn.normalisation import LayerNorm


def unet_embedding(
    net: Any,
    family: Init,
    c_noise: Array,
    cond: Conditioning,
    augment_labels: Array | None,
) -> Array:
    """The embedding `[B, E] float32` that every block is given, before its SiLU; called inside the
    U-Net `net`, whose attributes decide and whose parameters these are."""
    batch = len(c_noise)
    width = net.noise_channels or net.channels
    if net.time_embed == "fourier":
        drawn = net.frequencies or fourier_frequencies(width, net.fourier_scale, seed=0)
        features = fourier(c_noise, drawn)
    else:
        features = sinusoid(c_noise, width, net.time_embed)
    kinds = {"kernel_init": family.kernel, "bias_init": family.bias}
    n = net.num_classes
    if n and net.label_to == "noise":
        # Class number n has no bit set: the null class is the zero vector.
        label = fill_label(cond.label, batch, n, net.null_class)
        one_hot = jax.nn.one_hot(label, n) * n**0.5
        features = features + Dense(width, name="label", **kinds)(one_hot)
    if net.augment_dim:
        if augment_labels is None:
            augment_labels = jnp.zeros((batch, net.augment_dim))
        augment = Dense(width, use_bias=False, name="augment", **kinds)
        features = features + augment(augment_labels)
    embedding = NoiseMLP(net.embed_channels or 4 * net.channels, family, name="embed")(features)
    if n and net.label_to == "embedding":
        table = LabelTable(n, embedding.shape[-1], family, net.null_class, name="label")
        embedding = embedding + table(cond.label, batch)
    if net.vector_dim and cond.vector is not None:
        vector = cond.vector.astype(jnp.float32)
        if net.project_vector:
            vector = Dense(embedding.shape[-1], name="vector", **kinds)(vector)
        elif vector.shape != embedding.shape:
            raise ValueError(
                f"project_vector=False adds a vector of {vector.shape[-1]} to an embedding of "
                f"{embedding.shape[-1]}: give it that width"
            )
        embedding = embedding + vector
    if net.pool_tokens and cond.context is not None:
        embedding = embedding + _pooled(family, cond, embedding.shape[-1])
    return embedding


def _pooled(family: Init, cond: Conditioning, width: int) -> Array:
    """The context as one vector `[B, width] float32`."""
    assert cond.context is not None
    context, mask = cond.context.astype(jnp.float32), cond.context_mask
    seen = jnp.ones(context.shape[:2]) if mask is None else mask.astype(jnp.float32)
    total = jnp.einsum("bs,bse->be", seen, context)
    mean = total / jnp.maximum(seen.sum(1, keepdims=True), 1.0)
    mean = LayerNorm(1e-5, name="pooled_norm")(mean)
    kinds = {"kernel_init": family.kernel, "bias_init": family.bias}
    return Dense(width, name="pooled", **kinds)(mean)
