"""Codes of a run's image embeddings: fitted on its training batches once, kept with the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.denoisers.autoregressive import check_widths
from diffjax.denoisers.codes import CODES, Codes, cosine, fit_codes, share_of
from diffjax.denoisers.conditions.text import TextCondition
from diffjax.denoisers.embeddings import EMBEDDING, EmbeddingSpace
from diffjax.fingerprints import to_host
from diffjax.metrics.pca import components_for
from diffjax.models.prior_ar import AutoregressivePrior
from diffjax.pretrained.image_tower import LoadedImageTower
from diffjax.runs.frozen import read_frozen
from diffjax.runs.resolved import FILE, read_resolved
from diffjax.task import Batch
from diffjax.train.init_from import InitFrom
from diffjax.train.run import Loader

# The type of the task that predicts them.
AUTOREGRESSIVE = "autoregressive_prior"
# Embeddings that they are fitted on at most, the first of the training stream.
EMBEDDINGS = 2**17
# Share of the variance that codes explain where a config says neither it nor their number.
VARIANCE = 0.99


def check_codes(
    model: Mapping[str, Any], task: Mapping[str, Any], embedding: LoadedImageTower | None
) -> None:
    """Refuses, before anything is embedded, sections that no codes can be fitted by.

    Raises:
      ValueError: another network, no CLIP, more components than its embeddings have, or both their
        number and their share.
    """
    if model.get("type") != "prior_ar":
        raise ValueError(
            f"task {AUTOREGRESSIVE!r} trains a model of type 'prior_ar', not {model.get('type')!r}"
        )
    if embedding is None:
        raise ValueError(
            f"task {AUTOREGRESSIVE!r} is of image embeddings: add a section embedding=dict(run=...)"
            ", the CLIP that they are of"
        )
    if model.get("components") is None:
        return
    if task.get("variance") is not None:
        raise ValueError(
            "model.components is the number of codes, task.variance the share of variance that it "
            "follows from: leave one out"
        )
    Codes(embedding.tower.width, model["components"], 2, 0)


@dataclass(frozen=True, eq=False)
class FittedCodes:
    """Codes of a run: those in its workdir, else fitted when they are first asked for.

    Attributes:
      embedding: the CLIP whose image embeddings they are of.
      text: the condition whose embeddings images are compared with, and its tower's variables;
        None without one.
      model, task: sections of the config, see `check_codes`.
      loader: of the training batches.
      examples: in an epoch of them.
      workdir: of the run.
    """

    embedding: LoadedImageTower
    text: tuple[TextCondition, Mapping[str, Any]] | None
    model: Mapping[str, Any]
    task: Mapping[str, Any]
    loader: Loader
    examples: int
    workdir: Path

    @property
    def dot_buckets(self) -> int:
        """Of the cosines of text and image; 0 for none."""
        return self.model.get("dot_buckets", AutoregressivePrior.dot_buckets)

    @property
    def components(self) -> int:
        """Number of codes of an embedding."""
        return self.model.get("components") or self._count(self.variables)

    def _count(self, held: Mapping[str, np.ndarray]) -> int:
        share = self.task.get("variance") or VARIANCE
        return self.model.get("components") or components_for(held["variance"], share)

    @cached_property
    def variables(self) -> dict[str, np.ndarray]:
        """Variables of `Codes`, arrays on the host.

        Raises:
          ValueError: embeddings of text and image of different widths, or those that are kept are
            damaged.
        """
        if (self.workdir / FILE).exists():
            kept = read_resolved(self.workdir).frozen.get(CODES)
            if kept is not None:
                return read_frozen(self.workdir, CODES, kept)
        embeddings, cosines = zip(*self._embedded(), strict=True)
        held = fit_codes(embeddings, np.concatenate(cosines), self.dot_buckets)
        if jax.process_index() == 0:
            count, of = self._count(held), self.embedding.tower.width
            share = share_of(held, count)
            print(f"codes: {count} of {of} principal components, {share:.2%} of the variance of "
                  f"{sum(map(len, embeddings)):,} embeddings", flush=True)  # fmt: skip
        return held

    @property
    def init_from(self) -> InitFrom:
        """Gives a run's task the variables."""
        return InitFrom(
            lambda: {"params": {CODES: self.variables}}, "the training images", (CODES,), True
        )

    def _embedded(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Embeddings `[B, E]` of about one epoch of training batches, as training sees them, and
        their cosines `[B]` with their texts'; each process goes through the whole batches."""
        embed, size = self._embed(), self.loader.batch_spec()["image"].shape[0]
        for step in range(max(1, min(EMBEDDINGS, self.examples) // size)):
            batch = self.loader.batch(step, np.arange(size))
            yield jax.tree.map(to_host, embed(dict(batch)))

    def _embed(self) -> Callable[[Mapping[str, Any]], tuple[jax.Array, jax.Array]]:
        """`batch -> (embeddings [B, E], cosines [B])`, the latter 0 where nothing reads them."""
        space = EmbeddingSpace(self.embedding.tower)
        compared = self.text if self.dot_buckets else None

        @jax.jit
        def embed(batch: Batch, image: Any, words: Any) -> tuple[jax.Array, jax.Array]:
            x = space.encode({EMBEDDING: image}, batch["image"])
            if compared is None:
                return x, jnp.zeros(len(x))
            condition = compared[0]
            text = condition.embedding({condition.name: words}, batch[condition.field])
            check_widths(text.shape[-1], x.shape[-1])
            return x, cosine(text, x)

        held = self.embedding.variables, compared and compared[1]
        return lambda batch: embed(batch, *held)
