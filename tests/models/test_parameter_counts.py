"""Published networks have exactly the published numbers of parameters, by shape evaluation."""

import jax
import pytest
from jax import ShapeDtypeStruct

from configs.networks import NETWORKS
from diffjax.models import build_model
from diffjax.models.conditioning import Conditioning

# From the originals' constructors; the papers round them to 35.7, 113.7, 78.7, 52.5, 296, 554,
# 55.7, 56.4 million.
UNETS = {
    "ddpm_cifar10": (32, 35_746_307),
    "ddpm_256": (256, 113_673_219),
    "ddim_celeba64": (64, 78_700_803),
    "iddpm_cifar10": (32, 52_546_438),
    "adm_64": (64, 295_904_454),
    "adm_256": (256, 553_838_086),
    "edm_cifar10_vp": (32, 55_733_891),
    "edm_cifar10_ve": (32, 56_397_827),
}
# Trained parameters; the papers' 33, 130, 458 and 675 million also hold the fixed positions.
DITS = {
    "dit_s": (384, (32_865_056, 32_920_448, 33_142_016)),
    "dit_b": (768, (130_315_808, 130_426_496, 130_869_248)),
    "dit_l": (1024, (457_840_672, 457_988_224, 458_578_432)),
    "dit_xl": (1152, (674_834_720, 675_000_704, 675_664_640)),
}


# Width of the tokens, and the released weights' own number of parameters.
STABLE_DIFFUSION = {
    "stable_diffusion_1": (768, 859_520_964),
    "stable_diffusion_2": (1024, 865_910_724),
}
# f8 is Stable Diffusion's; of the others, the sum over the layers of the published configs.
AUTOENCODERS = {
    "autoencoder_f4": 55_312_063,
    "autoencoder_f8": 83_653_863,
    "autoencoder_f16": 69_610_963,
}


# Of each family one is traced by default; the others differ from it by a number of the table.
REPEATS = (
    *("ddpm_256", "ddim_celeba64", "adm_256", "edm_cifar10_vp"),
    *("stable_diffusion_2", "autoencoder_f4", "autoencoder_f16"),
)


def each(table: dict) -> pytest.MarkDecorator:
    """A case for every name of `table`."""
    heavy = pytest.mark.heavy
    names = [pytest.param(n, marks=heavy) if n in REPEATS else n for n in table]
    return pytest.mark.parametrize("name", names)


def count(kwargs: dict, size: int, channels: int, tokens: int = 0) -> int:
    model = build_model(**kwargs)
    x = ShapeDtypeStruct((1, size, size, channels), "float32")
    one = ShapeDtypeStruct((1,), "float32")
    label = ShapeDtypeStruct((1,), "int32") if kwargs.get("num_classes") else None
    text = ShapeDtypeStruct((1, 77, tokens), "float32") if tokens else None
    shapes = jax.eval_shape(
        lambda x, t, y, s: model.init(jax.random.key(0), x, t, Conditioning(y, context=s)),
        x, one, label, text,
    )  # fmt: skip
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@each(UNETS)
def test_unet_counts(name):
    size, expected = UNETS[name]
    assert count(NETWORKS[name], size, channels=3) == expected


@pytest.mark.parametrize("patch", [2, 4, 8])
@pytest.mark.parametrize("name", DITS)
def test_dit_counts(name, patch):
    _, expected = DITS[name]
    kwargs = NETWORKS[f"{name}_{patch}"] | {"scan_layers": True}
    assert count(kwargs, 32, channels=4) == expected[(2, 4, 8).index(patch)]


def test_dit_xl_with_its_fixed_positions_is_the_published_total():
    width, (patch2, *_) = DITS["dit_xl"]
    assert patch2 + (32 // 2) ** 2 * width == 675_129_632


@each(STABLE_DIFFUSION)
def test_stable_diffusion_counts(name):
    tokens, expected = STABLE_DIFFUSION[name]
    assert count(NETWORKS[name], 64, 4, tokens) == expected


@pytest.mark.heavy
@pytest.mark.parametrize("name", STABLE_DIFFUSION)
def test_nine_channels_of_input_are_five_more_kernels_of_the_first_convolution(name):
    tokens, expected = STABLE_DIFFUSION[name]
    assert count(NETWORKS[name], 64, 9, tokens) == expected + 5 * 9 * 320


@each(AUTOENCODERS)
def test_autoencoder_counts(name):
    model = build_model(**NETWORKS[name])
    x = ShapeDtypeStruct((1, 64, 64, 3), "float32")
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), x)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == AUTOENCODERS[name]


def test_every_network_is_held():
    dits = {f"{d}_{p}" for d in DITS for p in (2, 4, 8)}
    assert set(NETWORKS) == {*UNETS, *dits, *STABLE_DIFFUSION, *AUTOENCODERS}


# T5 1.1's encoders are those of Imagen and Stable Diffusion 3 (XXL); BERT's with their poolers.
ENCODERS = {
    "t5_base": (
        dict(type="t5", hidden=3072, activation="relu", gated=False),
        109_628_544,
    ),
    "t5_v1_1_base": (dict(type="t5"), 109_628_544),
    "t5_v1_1_xxl": (
        dict(type="t5", width=4096, depth=24, heads=64, hidden=10240),
        4_762_310_656,
    ),
    "bert_base": (dict(type="bert"), 109_482_240),
    "bert_large": (dict(type="bert", width=1024, depth=24, heads=16, hidden=4096), 335_141_888),
}


@each(ENCODERS)
def test_text_encoders(name):
    section, expected = ENCODERS[name]
    model, ids = build_model(**section), ShapeDtypeStruct((1, 8), "int32")
    init = lambda ids: model.init(jax.random.key(0), ids, pooled=True)  # noqa: E731
    shapes = jax.eval_shape(init, ids)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == expected
