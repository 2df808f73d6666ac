"""Image and text encoders that are ready to use: of a run, or of released CLIP weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from diffjax.data.resize import center_crop, resize_short
from diffjax.data.tokenizer import Tokenizer
from diffjax.data.tokenizer_files import load_tokenizer
from diffjax.data.tokenizer_joint import AnyTokenizer
from diffjax.evals.context import EvalContext
from diffjax.evals.embeddings import Towers
from diffjax.fingerprints import fingerprint, short_hash, to_host
from diffjax.interop.clip import load_clip
from diffjax.interop.hub import fetch
from diffjax.models import build_model
from diffjax.runs import TrainedRun
from diffjax.task import Variables
from diffjax.tasks.clip import ClipTask
from diffjax.train.sharding import replicated

TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json",
                   "special_tokens_map.json")  # fmt: skip
BATCH = 64


@dataclass(frozen=True, eq=False)
class Encoders:
    """Two towers with their weights.

    Attributes:
      name: for people.
      task: has `encode_image` and `encode_text`.
      variables: of the task.
      size: side in pixels of the images that the image tower takes.
      tokenizer: of the text tower; None refuses texts.
    """

    name: str
    task: Any
    variables: Variables
    size: int
    tokenizer: AnyTokenizer | None

    @property
    def fingerprint(self) -> str:
        """Equal for encoders that give the same images the same embeddings."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        settings = {k: repr(getattr(self.task.network, k, None)) for k in ("image", "mean", "std")}
        return f"{fingerprint(self.variables)} {short_hash(settings)} {self.size}"

    @cached_property
    def _towers(self) -> Towers:
        encode = None if self.tokenizer is None else self.tokenizer.encode
        context = EvalContext(self.task.predict_fns(), {}, {}, tokenize=encode or _no_tokenizer)
        return Towers(context, BATCH)

    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        """`[H, W, 3] uint8` of any size -> `[size, size, 3] uint8`, as CLIP's code does: bicubic,
        antialiased, the short side to `size`, then the central square."""
        return center_crop(resize_short(pixels, self.size), self.size)

    def images(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
        """Unit rows `[N, E] float32` of at least one image out of `prepare`."""
        pixels = np.stack(prepared).astype(np.float32) / np.float32(127.5) - np.float32(1)
        short = -len(pixels) % BATCH  # One shape is one compilation.
        padded = np.concatenate([pixels, np.repeat(pixels[:1], short, axis=0)])
        return self._towers.images(self.variables, padded)[: len(pixels)]

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit rows `[N, E] float32`.

        Raises:
          ValueError: no tokenizer, or a text that is empty or too long.
        """
        return self._towers.texts(self.variables, texts)


def _no_tokenizer(texts: Sequence[str]) -> np.ndarray:
    raise ValueError(f"{texts[0]!r} cannot be read: the weights came without a tokenizer; give one")


def encoders_of_run(run: TrainedRun, mesh: Mesh | None = None) -> Encoders:
    """The towers of a trained run.

    Args:
      mesh: over whose devices their weights are copied; by default they stay where they are.

    Raises:
      ValueError: a run of another task.
    """
    if "encode_image" not in run.task.predict_fns():
        raise ValueError(f"{run.workdir} is a run of task {run.kind!r}; a search needs 'clip'")
    name = f"{run.workdir}, step {run.step:,}" + (f", {run.ema} average" if run.ema else "")
    variables = over_mesh(run.variables, mesh)
    return Encoders(name, run.task, variables, run.image_shape[0], run.tokenizer)


def over_mesh(variables: Variables, mesh: Mesh | None) -> Variables:
    """`variables` on every device of a mesh; as they are without one."""
    if mesh is None:
        return variables
    return jax.device_put(jax.tree.map(to_host, variables), replicated(mesh))


def released_encoders(name: str, tokenizer: str | None, activation: str | None) -> Encoders:
    """The towers of released CLIP weights.

    Args:
      name, activation: see `load_clip`.
      tokenizer: a file or a folder; by default the files that lie with the weights.

    Raises:
      ValueError: weights or tokenizer cannot be read.
    """
    section, held = load_clip(name, activation)
    network: Any = build_model(**section)
    size = network.image.image_size
    kind = "softmax" if network.bias is None else "sigmoid"
    task = ClipTask(network, (size, size, 3), kind)
    state = {k: v for k, v in held.items() if k != "params"}
    variables = Variables(held["params"], state, {})
    return Encoders(name, task, variables, size, _tokenizer(name, tokenizer, network.text))


def tower_tokenizer(path: str | Path, tower: Any, **choices: Any) -> Tokenizer:
    """The tokenizer at `path` for a text tower, of whose length its rows are.

    Args:
      path, choices: see `load_tokenizer`.
      tower: has a `context` and a `vocab`.

    Raises:
      ValueError: as `load_tokenizer`, or it has more tokens than the tower's table.
    """
    found = load_tokenizer(path, context=tower.context, **choices)
    if found.vocab_size > tower.vocab:
        raise ValueError(
            f"{path} has {found.vocab_size:,} tokens, but the text tower knows {tower.vocab:,}: it "
            "is another model's tokenizer"
        )
    return found


def _tokenizer(name: str, tokenizer: str | None, tower: Any) -> Tokenizer | None:
    if tokenizer is not None:
        return tower_tokenizer(tokenizer, tower)
    path = Path(name)
    folder = fetch(name, TOKENIZER_FILES) if not path.exists() else path
    folder = folder if folder.is_dir() else folder.parent
    there = [file for file in TOKENIZER_FILES[:3] if (folder / file).exists()]
    return tower_tokenizer(folder, tower) if there else None
