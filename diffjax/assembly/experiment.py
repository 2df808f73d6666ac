"""Puts a run together from its config: the only place where all rooms meet."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from diffjax.assembly.condition_sections import condition_sections
from diffjax.assembly.data import (
    DataConfig,
    Prefetching,
    check_image_shape,
    epoch_of,
    trained_on,
)
from diffjax.assembly.evaluations import RunEvaluations, error_prefix, evals_of, split_evals
from diffjax.assembly.frozen import load_frozen
from diffjax.assembly.model_section import model_section, task_section
from diffjax.assembly.run_config import config_of
from diffjax.assembly.sections import check_sections
from diffjax.assembly.tokenizer import make_tokenizer
from diffjax.assembly.whole_batch import check_whole_batch
from diffjax.choices import construct
from diffjax.data.captions import check_captions
from diffjax.data.evaluation import ReadWhenAsked, as_arrays, outline
from diffjax.data.loader import Loader
from diffjax.data.schema import Source, check_same_classes
from diffjax.data.sources import factor_words, make_source
from diffjax.data.transforms import make_transforms
from diffjax.denoisers.clip_guide import ClipGuide
from diffjax.denoisers.conditions import make_conditions
from diffjax.evals import EvalContext, make_evaluator
from diffjax.evals.features import STAND_IN, FeatureExtractor
from diffjax.models import build_model
from diffjax.pretrained.clip_guide import guided, load_clip_guide
from diffjax.pretrained.init_from import make_init_from
from diffjax.pretrained.perceptual import TOWER, make_perceptual
from diffjax.pretrained.reference import followed
from diffjax.runs.config import plain
from diffjax.runs.record import describe_run, record_run
from diffjax.task import Params, Variables
from diffjax.tasks import make_task
from diffjax.train import sharding
from diffjax.train.checkpoint import Checkpoints
from diffjax.train.ema import EMA
from diffjax.train.init_from import chain
from diffjax.train.loop import Run, TrainConfig, build_state
from diffjax.train.optim import Optimizer
from diffjax.train.state import TrainState


class Experiment:
    """A run and what surrounds it, built from a config; nothing is trained or sampled yet.

    Args:
      config: its sections, see `diffjax.assembly.sections`.
      workdir: its folder.
      named: whether it is of a config file that the user named: then the configs that it names in
        turn are theirs too; else they are followed as `diffjax.pretrained.reference` says.

    Raises:
      ValueError: whatever is wrong with the config, or with what it names.
    """

    def __init__(self, config: ConfigDict, workdir: Path, named: bool = False):
        self.config = plain(config)
        check_sections(self.config)
        self.workdir, self.named = workdir, named
        self._tried: dict[Any, Any] = {}
        self.data: DataConfig = construct(DataConfig, "data", self.config["data"])
        self.choices: TrainConfig = construct(TrainConfig, "train", self.config["train"])
        self.optimizer: Optimizer = construct(Optimizer, "optim", self.config["optim"])
        self.emas = {
            k: construct(EMA, f"ema.{k}", v) for k, v in self.config.get("ema", {}).items()
        }
        self.mesh = construct(sharding.make_mesh, "mesh", self.config.get("mesh", {}))
        sharding.check_batch(self.choices.batch_size, self.choices.grad_accum, self.mesh)
        self.source = make_source(**self.data.train)
        self.frozen = load_frozen(self.reference, self.config.get("conditions", {}))
        self.tokenizer = self.frozen.tokenizer
        if self.tokenizer is None:
            self.tokenizer = make_tokenizer(self.config.get("tokenizer"), self.source, workdir)
        elif self.config.get("tokenizer"):
            raise ValueError("a text condition brings its own tokenizer: leave `tokenizer` out")
        pictures = make_transforms(self.data.eval_transforms, self.tokenizer)
        self._check_captions(self.source, *self.data.transforms)
        self.frozen.check(self.config)
        self.conditions = condition_sections(self.config.get("conditions", {}), self.tokenizer)
        towers = self.frozen.encoders(self.conditions)
        batches = trained_on(self.data, self.source, self.frozen.codec, pictures, towers)
        self.loader = Prefetching(
            Loader(
                batches,
                make_transforms(self.data.transforms, self.tokenizer),
                self.choices.batch_size,
                self.config.get("seed", 0),
                rows=sharding.local_rows(self.mesh, self.choices.batch_size),
                cache=self.data.cache,  # type: ignore[arg-type]
                epoch=epoch_of(self.data, self.source),
            ),
            self.data,
        )
        spec = self.loader.batch_spec()
        shape = spec["image"].shape[1:]
        check_image_shape(self.data, self.source, shape)
        classes = self.source.info.num_classes
        self.seen = make_perceptual(self.reference("perceptual"), workdir)
        if self.frozen.base is not None:
            self.frozen.base.check_data(self.source.info)
        space = self.frozen.space(shape, batches.info.codec)
        conditions = make_conditions(self.conditions, classes, space, self.frozen.read_towers)
        self.codes = self.frozen.codes(self.config, conditions, self.loader, len(batches), workdir)
        task = self.task_section = task_section(self.config["task"], self.source.info.name)
        self.model = model_section(
            self.config, task, spec, classes, self.tokenizer, conditions, space, self.codes
        )
        pieces = self.frozen.pieces(conditions, space)
        pieces |= {TOWER: self.seen[0]} if self.seen else {}
        network = build_model(**self.model)
        self.task = make_task(task, network, shape, classes, pieces)
        check_whole_batch(self.task, self.choices, self.mesh)
        self.eval_choices, self.eval_sections = split_evals(
            evals_of(self.config), self.emas, self.choices.steps_per_dispatch
        )
        self.init_from = make_init_from(
            self.reference("init_from"), workdir, network, self.tokenizer
        )

    def _check_captions(self, source: Source, *more: Mapping[str, Any]) -> None:
        """Raises ValueError, before anything is computed, for a caption that cannot be tokenised;
        a run with checkpoints has been through that."""
        if not (self.workdir / "checkpoints").is_dir():
            sections = (*more, *self.data.eval_transforms)
            check_captions(source, make_transforms(sections, self.tokenizer))

    def reference(self, name: str) -> Mapping[str, Any] | None:
        """The section `name` (dots lead into sections), which stands for another network, as it may
        be followed, its `run` filled in; None where the config has none."""
        section: Any = self.config
        for key in name.split("."):
            section = section.get(key) if section else None
        return followed(name, section, self.workdir, self.named) if section else None

    @property
    def run(self) -> Run:
        return Run(
            task=self.task,
            loader=self.loader,
            choices=self.choices,
            optimizer=self.optimizer,
            emas=self.emas,
            mesh=self.mesh,
            seed=self.config.get("seed", 0),
            workdir=self.workdir,
            config=self.config,
            init_from=chain(
                self.init_from,
                self.frozen.init_from(self.workdir),
                self.codes and self.codes.init_from,
                self.seen and self.seen[1],
            ),
            begin=self.record,
        )

    def record(self, frozen: Params) -> None:
        """Has the run say in its workdir how it was built, see `record_run`; `frozen` are the
        variables of its frozen networks."""
        info, spec = self.source.info, self.loader.batch_spec()
        data, emas = (info.name, info.num_classes, info.class_names), tuple(sorted(self.emas))
        pieces = self.frozen.describe(self.task, self.conditions)
        sections = {**self.config, "task": self.task_section}
        resolved = describe_run(sections, self.model, pieces, data, spec, emas)
        record_run(self.workdir, resolved, frozen, self.reference, self.tokenizer)

    @cached_property
    def clip_guide(self) -> ClipGuide | None:
        """Config section `clip_guide`, loaded; None without one."""
        return load_clip_guide(self.reference("clip_guide"), self.tokenizer, self.mesh)

    @property
    def fields(self) -> list[str]:
        """Fields of a batch that samples are drawn by."""
        model = getattr(self.task, "model", None)
        if model is not None:
            return model.fields
        return ["label"] if getattr(self.task, "num_classes", True) else []

    @property
    def conditional(self) -> bool:
        """Whether samples are drawn by class."""
        return "label" in self.fields

    @cached_property
    def arrays(self) -> dict[str, Mapping[str, np.ndarray]]:
        """The evaluated splits as arrays: `train`, `test` where there is one, and the others; each
        is read when an evaluator first looks at it."""
        transforms = make_transforms(self.data.eval_transforms, self.tokenizer)
        tests = {} if self.data.test is None else {"test": self.data.test}
        sources = {"train": self.source}
        for name, section in {**tests, **self.data.others}.items():
            sources[name] = make_source(**section)
            check_same_classes(self.source.info, sources[name].info)
            self._check_captions(sources[name])
        return {
            name: ReadWhenAsked(
                lambda s=source: as_arrays(s, transforms), lambda s=source: outline(s, transforms)
            )
            for name, source in sources.items()
        }

    def context(self, features: FeatureExtractor | None, **scorers: Any) -> EvalContext:
        """The context that the evaluators of this run are built from, see `make_scorers`."""
        predict_fns, nfe = guided(self.task, self.clip_guide)
        return EvalContext(
            predict_fns=predict_fns,
            train=self.arrays["train"],
            test=self.arrays.get("test", self.arrays["train"]),
            features=features,
            class_names=self.source.info.class_names,
            conditional=self.conditional,
            cache_dir=self.workdir / "samples",
            nfe=nfe,
            noise_levels=getattr(self.task, "noise_levels", None),
            others={k: v for k, v in self.arrays.items() if k not in ("train", "test")},
            factors=factor_words(self.source.info.name),
            tokenize=None if self.tokenizer is None else self.tokenizer.encode,
            detokenize=None if self.tokenizer is None else self.tokenizer.decode,
            drawn_by=[field for field in self.fields if field != "label"],
            tried=self._tried,
            **scorers,
        )

    @cached_property
    def outline(self) -> Variables:
        """The shapes of the task's variables."""
        held = getattr(self.task, "variables", None)
        if held is not None:  # of a released model
            return jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), held)
        spec = self.loader.batch_spec()
        return jax.eval_shape(lambda key: self.task.init(key, spec), jax.random.key(0))

    def evaluations(self, features: FeatureExtractor | None, **scorers: Any) -> RunEvaluations:
        """The evaluators of the config, built now so that a mistake shows before training."""
        context, built = self.context(features, **scorers), {}
        for name, section in self.eval_sections.items():
            with error_prefix(f"evals.{name}"):
                built[name] = make_evaluator(context=context, **section)
        return RunEvaluations(built, self.eval_choices)

    def check_evaluations(self, features: FeatureExtractor | None = None, **scorers: Any) -> None:
        """Builds the evaluators as they will be and tries them by shape, so that a mistake in one
        shows before anything is trained: with the shapes of their feature extractor where they are
        known, else with a stand-in."""
        measured = self.config.get("features") or self.config.get("clip_scorer")
        found = features or (STAND_IN if measured else None)
        self.try_evaluations(self.evaluations(found, **scorers))

    def try_evaluations(self, evaluations: RunEvaluations) -> None:
        """Tries evaluators on the mesh that the run has; see `RunEvaluations.trial`."""
        with jax.set_mesh(self.mesh):
            evaluations.trial(self.outline)

    def trained(self, step: int | None = None) -> tuple[int, TrainState, Params]:
        """The state of a checkpoint (the latest readable one by default) and the frozen towers.

        Raises:
          ValueError: there is no such checkpoint.
        """
        with jax.set_mesh(self.mesh):
            fresh, frozen, _ = build_state(self.run, replaced=True)
            checkpoints = Checkpoints(self.workdir / "checkpoints", read_only=True)
            try:
                got = checkpoints.restore(fresh) if step is None else checkpoints.read(step, fresh)
            finally:
                checkpoints.close()
        if got is None:
            raise ValueError(f"{self.workdir} holds no checkpoint: train it first")
        return int(got[0].step), got[0], frozen


def open_run(workdir: Path) -> Experiment:
    """The assembly of a run that is on disk, from its own `config.json`; to draw from it
    `diffjax.runs.open_run` needs less.

    Raises:
      ValueError: no run there.
    """
    return Experiment(config_of(workdir), workdir)
