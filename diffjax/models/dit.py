"""DiT: a transformer over image patches, conditioned through adaLN-Zero (Peebles & Xie 2023)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from diffjax.models.conditioning import (
    NO_CONDITIONING,
    Conditioning,
    check_unread,
    check_vector,
    with_concat,
)
from diffjax.nn.embeddings import LabelTable, NoiseMLP, grid_positions, sinusoid
from diffjax.nn.initialisers import Init, xavier, zero_bias, zeros
from diffjax.nn.linear import Dense
from diffjax.nn.normalisation import layer_norm
from diffjax.nn.partition import constrain_batch
from diffjax.nn.patches import patchify, unpatchify
from diffjax.nn.transformer import DiTBlock, modulate
from diffjax.ranges import Classes, Decay, Depth, Dtype, MaybeWidth, Pixels, Positive, Ratio, Width

small_normal = nn.initializers.normal(stddev=0.02)
# Time MLP and class table; nothing else of a DiT is drawn from this family.
DIT_INIT = Init(small_normal, zero_bias, zeros, xavier, small_normal)


class ScannedBlock(DiTBlock):
    """`DiTBlock` in the form that `nn.scan` wants: returns (carry, nothing)."""

    def __call__(self, *args: Any) -> Any:
        return super().__call__(*args), None


class DiT(nn.Module):
    """`x [B, H, W, C], c_noise [B], cond -> [B, H, W, out_channels] float32`.

    Attributes:
      width, depth, heads, mlp_ratio: of the transformer.
      patch: side of the square patches.
      out_channels: those of the image, or twice as many where the variance is learned.
      num_classes: 0 without labels; `null_class` adds class number `num_classes`: no class.
      time_embed, time_features: kind (a key of `SINUSOIDS`) and width of the time features.
      vector_dim: width of the conditioning's `vector`, whose projection is added to the embedding;
        0 for none.
      cross_attention: every block also attends to the conditioning's `context`.
      eps, mlp_eps: of the layer norms, and of those before the MLPs where it is another (1e-5 in
        DiT as diffusers has it).
      scan_layers: one compiled block scanned over stacked parameters, for deep networks on
        accelerators; pair it with `remat`, else it holds twice the memory.
      remat: recompute blocks in the backward pass.
      dtype: of the arithmetic; parameters, statistics and the output are float32.
    """

    width: Width
    depth: Depth
    heads: Width
    patch: Pixels
    out_channels: Width
    mlp_ratio: Ratio = 4.0
    num_classes: Classes = 0
    null_class: bool = True
    time_embed: str = "cos"
    time_features: Width = 256
    vector_dim: MaybeWidth = 0
    cross_attention: bool = False
    dropout: Decay = 0.0
    eps: Positive = 1e-6
    mlp_eps: Positive | None = None
    scan_layers: bool = False
    remat: bool = False
    dtype: Dtype = "float32"

    @nn.compact
    def __call__(
        self,
        x: Array,
        c_noise: Array,
        cond: Conditioning = NO_CONDITIONING,
        *,
        augment_labels: Array | None = None,
        train: bool = False,
    ) -> Array:
        """The network's raw output; `c_noise [B]` is what the time embedding sees."""
        x = with_concat(x, cond)
        self._check(x, cond, augment_labels)
        b, rows, columns = x.shape[0], x.shape[1] // self.patch, x.shape[2] // self.patch
        h = patchify(constrain_batch(x).astype(self.dtype), self.patch)
        h = Dense(self.width, kernel_init=xavier, dtype=self.dtype, name="patch_in")(h)
        h = h + jnp.asarray(grid_positions(rows, columns, self.width), self.dtype)

        embedding = jax.nn.silu(self._embedding(c_noise, cond, b))
        h = self._blocks(h, embedding.astype(self.dtype), cond, train)
        modulation = Dense(2 * self.width, kernel_init=zeros, name="modulation_out")(embedding)
        shift, scale = jnp.split(modulation, 2, axis=-1)
        h = modulate(layer_norm(h.astype(jnp.float32), self.eps), shift, scale)
        pixels = self.patch * self.patch * self.out_channels
        h = Dense(pixels, kernel_init=zeros, name="patch_out")(h)
        return constrain_batch(unpatchify(h, rows, columns, self.patch))

    def _embedding(self, c_noise: Array, cond: Conditioning, batch: int) -> Array:
        """The embedding of noise level, class and vector, `[B, width] float32`."""
        features = sinusoid(c_noise, self.time_features, self.time_embed)
        embedding = NoiseMLP(self.width, DIT_INIT, name="embed")(features)
        if self.num_classes:
            table = LabelTable(self.num_classes, self.width, DIT_INIT, self.null_class)
            embedding = embedding + table(cond.label, batch)
        if self.vector_dim and cond.vector is not None:
            dense = Dense(self.width, kernel_init=DIT_INIT.kernel, name="vector")
            embedding = embedding + dense(cond.vector.astype(jnp.float32))
        return embedding

    def _check(self, x: Array, cond: Conditioning, augment_labels: Array | None) -> None:
        if x.ndim != 4 or x.shape[1] % self.patch or x.shape[2] % self.patch:
            raise ValueError(
                f"DiT of patch {self.patch} got x of shape {x.shape}; it needs [B, H, W, C] with "
                "H and W divisible by the patch"
            )
        if augment_labels is not None:
            raise ValueError("DiT takes no augment_labels; use a UNet with augment_dim")
        reads = ["concat", "vector", *(["label"] if self.num_classes else [])]
        reads += ["vector"] if self.vector_dim else []
        reads += ["context", "context_mask"] if self.cross_attention else []
        check_unread("this DiT", cond, reads)
        check_vector(self.vector_dim, cond)

    def _blocks(
        self,
        h: Array,
        embedding: Array,
        cond: Conditioning,
        train: bool,
    ) -> Array:
        """All blocks in turn, or scanned over parameters stacked on a leading axis."""
        choices = {
            "heads": self.heads,
            "mlp_ratio": self.mlp_ratio,
            "cross_attention": self.cross_attention,
            "dropout": self.dropout,
            "eps": self.eps,
            "mlp_eps": self.mlp_eps,
            "dtype": self.dtype,
        }
        inputs = (embedding, cond.context, cond.context_mask, train)
        # Argument 5 (counting self) is `train`, a Python bool.
        if not self.scan_layers:
            make = nn.remat(DiTBlock, static_argnums=(5,)) if self.remat else DiTBlock
            for i in range(self.depth):
                h = make(**choices, name=f"block_{i}")(h, *inputs)
            return h
        body = ScannedBlock
        if self.remat:
            body = nn.remat(body, static_argnums=(5,), prevent_cse=False)
        scanned = nn.scan(
            body,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(nn.broadcast,) * 4,  # pyright: ignore[reportArgumentType]
            length=self.depth,
        )
        h, _ = scanned(**choices, name="blocks")(h, *inputs)
        return h
