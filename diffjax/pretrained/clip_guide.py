"""Config section `clip_guide`: the CLIP by whose gradient samples are moved towards their texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from jax.sharding import Mesh

from diffjax.choices import construct
from diffjax.data.tokenizer_joint import AnyTokenizer, JointTokenizer
from diffjax.denoisers.clip_guide import ClipGuide
from diffjax.generate.predict import DRAWING
from diffjax.pretrained.clip import Encoders, encoders_of_run, over_mesh, released_encoders
from diffjax.pretrained.reference import Reference
from diffjax.task import Task

# The option of a recipe that asks for a CLIP.
ASKS = "clip_guidance"


@dataclass(frozen=True)
class ClipGuideConfig(Reference):
    """A CLIP, of a run (see `Reference`) or released, which reads the ids of texts that the run
    draws by. It is opened where samples are drawn, and no part of the run.

    Attributes:
      clip: a released CLIP, see `interop.clip.load_clip`.
    """

    clip: str | None = None
    section: ClassVar[str] = "clip_guide"
    released: ClassVar[tuple[str, ...]] = ("clip",)


def load_clip_guide(
    section: Mapping[str, Any] | None, tokenizer: AnyTokenizer | None, mesh: Mesh | None = None
) -> ClipGuide | None:
    """The CLIP of a config section, see `ClipGuideConfig`; None without one.

    Args:
      tokenizer: of the run that is drawn from; None for one that reads no texts.
      mesh: over whose devices the weights are copied; by default they stay where they are.

    Raises:
      ValueError: no such CLIP, or one that reads other ids.
    """
    if not section:
        return None
    choices: ClipGuideConfig = construct(ClipGuideConfig, "clip_guide", section)
    if choices.clip is not None:
        encoders = released_encoders(choices.clip, None, None)
    else:
        encoders = encoders_of_run(choices.open())
    guide = clip_guide(encoders, mesh)
    own = encoders.tokenizer
    if tokenizer is not None and (own is None or not _same_rows(own, tokenizer)):
        raise ValueError(
            f"clip_guide: {encoders.name} reads other ids of a text than this run draws by: take a "
            "CLIP of the same tokenizer and length"
        )
    return guide


def clip_guide(encoders: Encoders, mesh: Mesh | None = None) -> ClipGuide:
    """The guide of two towers with their weights."""
    held = over_mesh(encoders.variables, mesh)
    variables = {"params": {**held.params, **held.frozen}, **held.model_state}
    name = f"{encoders.name} ({encoders.fingerprint})"
    return ClipGuide(encoders.task.network, variables, encoders.size, name)


def _same_rows(a: AnyTokenizer, b: AnyTokenizer) -> bool:
    """Whether two tokenizers give a text the same row, as far as both take it; of joint ones no."""
    if isinstance(a, JointTokenizer) or isinstance(b, JointTokenizer):
        return False
    return a.spelling == b.spelling and (a.context, a.pad) == (b.context, b.pad)


def guided(task: Task, guide: ClipGuide | None) -> tuple[Mapping[str, Callable[..., Any]], Any]:
    """A task's predict functions, of which those that draw have a `clip_guide`, and its `nfe`,
    which says which CLIP guides a recipe where one does."""
    fns, nfe = task.predict_fns(), getattr(task, "nfe", None)
    if guide is None:
        return fns, nfe
    own = {name: partial(fns[name], clip_guide=guide) for name in DRAWING if name in fns}
    return {**fns, **own}, nfe and partial(_protocol, nfe, guide.name)


def _protocol(nfe: Callable[..., Any], name: str, **recipe: Any) -> Any:
    said = nfe(**recipe)
    return {**said, "clip_guide": name} if said.get(ASKS) else said
