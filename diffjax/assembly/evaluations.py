"""The evaluators of a run: which there are, when each is due, of which average of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from diffjax.choices import construct, unknown
from diffjax.diffusion.recipes import recipe_over
from diffjax.evals import EVALUATORS
from diffjax.generate.pipeline import KEPT
from diffjax.generate.predict import DRAWING
from diffjax.launch.one_line import one_line
from diffjax.ranges import Whole
from diffjax.task import Params, Variables
from diffjax.train.state import TrainState


@dataclass(frozen=True)
class EvalConfig:
    """Settings of an entry of `evals` beside its evaluator's own options.

    Attributes:
      every: updates between evaluations; 0 for the end of the run alone.
      ema: which average of the weights is evaluated; None for the weights themselves.
      at_end: whether the end of the run is evaluated too.
    """

    every: Whole = 0
    ema: str | None = None
    at_end: bool = True


def split_evals(
    evals: Mapping[str, Mapping[str, Any]], emas: Collection[str], steps_per_dispatch: int
) -> tuple[dict[str, EvalConfig], dict[str, dict[str, Any]]]:
    """By name, when each entry of a config's `evals` is due, and the section of its evaluator.

    Raises:
      ValueError: an average that the run does not keep, or a step at which it cannot stop.
    """
    own, rest = {}, {}
    fields = EvalConfig.__dataclass_fields__
    for name, section in evals.items():
        own[name] = construct(
            EvalConfig, f"evals.{name}", {k: v for k, v in section.items() if k in fields}
        )
        rest[name] = {k: v for k, v in section.items() if k not in fields}
        if own[name].every % steps_per_dispatch:
            raise ValueError(
                f"evals.{name}.every={own[name].every} is not a multiple of "
                f"train.steps_per_dispatch={steps_per_dispatch}"
            )
        if own[name].ema is not None and own[name].ema not in emas:
            raise unknown(f"evals.{name}.ema:", own[name].ema, emas)
    return own, rest


def draws(section: Mapping[str, Any]) -> bool:
    """Whether an entry of `evals` draws samples by a recipe."""
    kind = EVALUATORS.get(str(section.get("type")))
    fields = getattr(kind, "__dataclass_fields__", {})
    default = fields["pred"].default if "pred" in fields else None
    return section.get("pred", default) in DRAWING


def evals_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a config's `evals`; of those that draw, what they leave open (`pred_kw`,
    `ema`) is that of the config's `sampling`."""
    sampling = dict(config.get("sampling", {}))
    ema = {"ema": sampling.pop("ema")} if "ema" in sampling else {}
    found = {}
    for name, section in config.get("evals", {}).items():
        found[name] = dict(section)
        if draws(section):
            own = recipe_over(sampling, section.get("pred_kw", {}), KEPT)
            found[name] = {**ema, **section, **({"pred_kw": own} if own else {})}
    return found


@contextlib.contextmanager
def error_prefix(what: str) -> Iterator[None]:
    """Whatever is raised inside is a ValueError of one line that begins with `what`."""
    try:
        yield
    except Exception as error:
        reason = one_line(error, 500)
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"{what}: {kind}{reason}") from error


@dataclass(frozen=True)
class RunEvaluations:
    """The evaluators of a run and when each is due; see `train.loop.Evaluations`."""

    evaluators: Mapping[str, Any]
    choices: Mapping[str, EvalConfig]

    def trial(self, variables: Variables, only: Iterable[str] = ()) -> None:
        """Tries the evaluators (`only` some) by the shapes of a task's `variables`.

        Raises:
          ValueError: one of them would fail; names it.
        """
        for name in only or self.evaluators:
            if name not in self.evaluators:
                raise unknown("evaluator", name, self.evaluators)
            with error_prefix(f"evals.{name}"):
                self.evaluators[name].trial(variables)

    def _due(self, step: int, last: bool) -> list[str]:
        return [
            name
            for name, c in self.choices.items()
            if (last and c.at_end) or (c.every and step % c.every == 0 and step)
        ]

    def due(self, step: int, last: bool) -> bool:
        return bool(self._due(step, last))

    def run(
        self, step: int, state: TrainState, frozen: Params, last: bool
    ) -> Iterator[tuple[str, str | None, Iterable[Any]]]:
        for name in self._due(step, last):
            yield name, *self.one(name, state, frozen)

    def one(self, name: str, state: TrainState, frozen: Params) -> tuple[str | None, Iterable[Any]]:
        """The average of the weights, and the records, of one evaluator."""
        if name not in self.evaluators:
            raise unknown("evaluator", name, self.evaluators)
        ema = self.choices[name].ema
        return ema, self.evaluators[name].run(state.variables(frozen, ema))
