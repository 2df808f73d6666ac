"""Numbers of a config have their ranges, declared beside the fields that they fill."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

import numpy as np
import pytest

from diffjax.assembly.data import DataConfig
from diffjax.assembly.evaluations import EvalConfig
from diffjax.assembly.sections import CONTEXT, GIVEN, TABLE_OF_TRANSFORMS
from diffjax.assembly.tokenizer import TOKENIZERS
from diffjax.choices import LINEN, build, check_values, construct, hints_of
from diffjax.data.oversampling import Oversample
from diffjax.data.sources import SOURCES
from diffjax.denoisers.conditions import CONDITIONS, HIDDEN
from diffjax.denoisers.conditions.learned_text import TEXT_ENCODERS
from diffjax.diffusion.gradient_guidance import ClipGuidance
from diffjax.diffusion.grids import make_grid
from diffjax.diffusion.guidance import Guidance
from diffjax.diffusion.samplers import SAMPLERS
from diffjax.evals import EVALUATORS
from diffjax.evals.compare import Settings
from diffjax.evals.factors import Question
from diffjax.generate.likelihood import bits_per_dim, flow_bits_per_dim
from diffjax.models import MODELS
from diffjax.models.clip import IMAGE_TOWERS
from diffjax.models.text import TextTransformer
from diffjax.models.vae import DECODERS, ENCODERS
from diffjax.pretrained.clip_scorer import ClipScorerConfig
from diffjax.pretrained.codec import CodecConfig
from diffjax.pretrained.factor_classifier import FactorClassifierConfig
from diffjax.pretrained.features import FEATURES
from diffjax.pretrained.init_from import InitFromConfig
from diffjax.pretrained.perceptual import PerceptualConfig
from diffjax.pretrained.text import TextTowerConfig
from diffjax.ranges import Count, Decay, Dtype, Positive, Real, Rising, Seed
from diffjax.tasks import PARTS, TASKS
from diffjax.tasks.vae import VaeTask
from diffjax.train.ema import EMA
from diffjax.train.optim import Optimizer
from diffjax.train.run import TrainConfig
from diffjax.train.sharding import make_mesh


@dataclasses.dataclass
class Part:
    rate: Positive = 1.0
    decay: Decay | None = None
    sizes: tuple[Count, ...] = (1,)
    pairs: tuple[tuple[str, Real, Real], ...] = ()
    where: Mapping[str, Count] = dataclasses.field(default_factory=dict)
    kind: Literal["a", 2] = "a"
    reach: Annotated[tuple[Real, Real], Rising()] = (0, 1)
    seed: Seed = 0
    either: Count | np.ndarray = 1
    dtype: Dtype = "float32"
    other: Any = None


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (dict(rate=0), "part.rate=0 must be greater than 0"),
        (dict(rate=-1.5), "part.rate=-1.5 must be greater than 0"),
        (dict(rate=float("nan")), "part.rate=nan must be greater than 0"),
        (dict(rate=float("inf")), "part.rate=inf must be at most 1000000000"),
        (dict(rate=1e-300), "part.rate=1e-300 must be at least 1.17"),
        (dict(rate=10**400), "part.rate=1000"),
        (dict(rate=10**5000), "part.rate=a number of 16610 bits must be at most"),
        (dict(rate="x"), "rate='x' is no float"),
        (dict(rate=True), "rate=True is no float"),
        (dict(rate=None), "rate=None is no float"),
        (dict(rate={}), "rate={} is no float"),
        (dict(rate=[1.0]), "rate=(1.0,) is no float"),
        (dict(decay=1.0), "part.decay=1.0 must be less than 1"),
        (dict(decay="no"), "decay='no' is no float or None"),
        (dict(sizes=[1, 0]), "part.sizes[1]=0 must be at least 1"),
        (dict(sizes=[1, 2.5]), "sizes[1]=2.5 is no int"),
        (dict(sizes=[True]), "sizes[0]=True is no int"),
        (dict(sizes=3), "sizes=3 is no tuple: write (3,)"),
        (dict(sizes=[2**31]), "part.sizes[0]=2147483648 must be at most 2147483647"),
        (dict(pairs=[["a", 1, 2], ["b", 1]]), "part.pairs[1]=('b', 1) must have 3 entries"),
        (dict(pairs=[["a", 1, "b"]]), "pairs[0][2]='b' is no float"),
        (dict(where={"x": 0}), "part.where.x=0 must be at least 1"),
        (dict(where=3), "part.where is a section, dict(...), not 3"),
        (dict(where=[("x", 1)]), "part.where is a section"),
        (dict(reach=[2, 1]), "part.reach=(2, 1) must be in rising order"),
        (dict(kind=2.0), "part.kind must be 'a' or 2, not 2.0"),
        (dict(kind=[]), "part.kind must be 'a' or 2, not ()"),
        (dict(seed=2**63), "part.seed=9223372036854775808 must be at most 9223372036854775807"),
        (dict(either=0), "part.either=0 must be at least 1"),
        (dict(seed=None), "seed=None is no int"),
        (dict(dtype="flaot32"), "part.dtype='flaot32' must be one of float32"),
        (dict(dtype=-1), "part.dtype=-1"),
        (dict(raet=1), "did you mean 'rate'"),
    ],
)
def test_what_lies_outside_is_one_line_that_says_where(section, said):
    with pytest.raises(ValueError) as caught:
        construct(Part, "part", section)
    assert said in str(caught.value) and len(str(caught.value)) < 300


def test_what_lies_inside_is_taken_as_it_is():
    section = dict(rate=3, decay=0.0, sizes=[1, 2**31 - 1], pairs=[["a", -1, 2.5]], kind=2)
    made = construct(Part, "part", {**section, "seed": 2**63 - 1, "where": {"x": 1}})
    assert made.rate == 3 and made.sizes == (1, 2**31 - 1) and made.pairs == (("a", -1, 2.5),)
    assert construct(Part, "part", dict(decay=None)).decay is None


@pytest.mark.parametrize("section", [None, 3, "x", [], [("type", "part")], True])
def test_what_stands_in_a_sections_place_is_named(section):
    with pytest.raises(ValueError, match=r"^task\.part is a section, dict\(\.\.\.\), not "):
        build({"part": Part}, "task.part", section)


@pytest.mark.parametrize("name", [3, None, [], {}, "prat"])
def test_a_type_that_is_none_is_answered_where_it_stands(name):
    with pytest.raises(ValueError, match=r"unknown task\.part .*options: part"):
        build({"part": Part}, "task.part", {"type": name})


@pytest.mark.parametrize(
    ("key", "value"),
    [("lr", -1), ("lr", 0), ("clip_norm", -1), ("b2", 1.5), ("b1", -0.1), ("warmup_steps", -1),
     ("weight_decay", -1.0), ("final", 2.0), ("eps", float("nan"))],
)  # fmt: skip
def test_an_optimizer_refuses_what_it_cannot_mean(key, value):
    with pytest.raises(ValueError, match=f"^optim.{key}={value}"):
        construct(Optimizer, "optim", {key: value})
    with pytest.raises(ValueError, match=f"^optim.parts.rival.{key}={value}"):
        construct(Optimizer, "optim", {"parts": {"rival": {key: value}}})


@pytest.mark.parametrize(
    ("key", "value"), [("steps", 10**22), ("keep_every", -2), ("batch_size", 0), ("keep", 0)]
)
def test_a_run_refuses_what_it_cannot_count(key, value):
    with pytest.raises(ValueError, match=f"^train.{key}={value} must be at"):
        construct(TrainConfig, "train", {"steps": 4, "batch_size": 2, key: value})


def builders() -> dict[str, tuple[Any, tuple[str, ...]]]:
    """Everything that a section of a config can build, and the parameters that no section gives."""
    tables = {
        "model": (MODELS, LINEN),
        "model.image": (IMAGE_TOWERS, LINEN),
        "model.encoder": (ENCODERS, LINEN),
        "model.decoder": (DECODERS, LINEN),
        "task": (TASKS, GIVEN),
        "data.train": (SOURCES, ()),
        "transform": (TABLE_OF_TRANSFORMS, ()),
        "tokenizer": (TOKENIZERS, ("captions",)),
        "evals": (EVALUATORS, CONTEXT),
        "features": (FEATURES, ()),
        "conditions": (CONDITIONS, HIDDEN),
        "encoder": (TEXT_ENCODERS, LINEN),
        "sampler": (SAMPLERS, ("grid",)),
        **{f"task.{name}": (table, LINEN) for name, table in PARTS.items()},
    }
    single = [DataConfig, Oversample, TrainConfig, Optimizer, EMA, make_mesh, EvalConfig,
              Question, Guidance, ClipGuidance, make_grid, CodecConfig, TextTowerConfig,
              ClipScorerConfig, FactorClassifierConfig, PerceptualConfig, InitFromConfig, Settings,
              TextTransformer,
              bits_per_dim, flow_bits_per_dim, VaeTask.elbo, VaeTask.iwae]  # fmt: skip
    found = {f"{what} {kind!r}": (maker, hidden) for what, (table, hidden) in tables.items()
             for kind, maker in table.items()}  # fmt: skip
    return found | {maker.__qualname__: (maker, LINEN) for maker in single}


BUILDERS = builders()


def bare(hint: Any) -> bool:
    """Whether an annotation holds a number without a range."""
    if get_origin(hint) is Annotated:
        return False
    return hint in (int, float) or any(bare(one) for one in get_args(hint) if one is not Ellipsis)


@pytest.mark.parametrize("what", BUILDERS)
def test_every_number_that_a_section_can_set_has_a_range(what):
    maker, hidden = BUILDERS[what]
    hints, signature = hints_of(maker), inspect.signature(maker).parameters
    keys = [k for k in signature if k not in hidden]
    assert not [k for k in keys if k not in hints and k != "self"], "without an annotation"
    assert not [k for k in keys if k in hints and bare(hints[k])], "numbers without a range"


@pytest.mark.parametrize("what", BUILDERS)
def test_a_default_lies_in_its_own_range(what):
    maker, hidden = BUILDERS[what]
    parameters = inspect.signature(maker).parameters
    given = {k: p.default for k, p in parameters.items() if k not in hidden}
    defaults = {k: v for k, v in given.items() if isinstance(v, int | float | tuple | str)}
    check_values(what, defaults, hints_of(maker))


def test_the_test_sees_a_number_without_a_range():
    assert all(bare(hint) for hint in (int, float | None, tuple[int, ...], Mapping[str, float]))
    assert not any(bare(hint) for hint in (Count, Count | None, tuple[Positive, ...], bool, str))
