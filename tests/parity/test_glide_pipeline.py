"""A whole GLIDE: images equal those of its code's sampling, of the same noise and weights."""

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")

from diffjax.data.tokenizer_gpt2 import load_gpt2_tokenizer  # noqa: E402
from diffjax.diffusion.grids import make_grid  # noqa: E402
from diffjax.diffusion.schedules import Cosine, Linear  # noqa: E402
from diffjax.generate.glide import STAGES, draw_base, draw_glide, draw_upsampled  # noqa: E402
from diffjax.interop.files import write_tensors  # noqa: E402
from diffjax.interop.glide import GlideRelease, load_glide  # noqa: E402
from diffjax.interop.openai_unet import Release  # noqa: E402
from diffjax.keys import normal, per_row, root, stage_seed, stream  # noqa: E402
from diffjax.pretrained.glide import FILES, glide, open_glide  # noqa: E402
from tests.parity import glide_twin as twin  # noqa: E402
from tests.parity.glide_words import END, VOCAB, write_words  # noqa: E402
from tests.parity.networks import first, shaken, state  # noqa: E402

pytestmark = pytest.mark.parity

PROMPTS, SEED, INDEX, L = ["a red hat", "the hedgehog"], 3, np.arange(2), 12
SIDES = dict(zip(STAGES, (8, 16), strict=True))
SCHEDULES = dict(zip(STAGES, ("cosine", "linear"), strict=True))
BARS = dict(zip(STAGES, ("squaredcos_cap_v2", "linear"), strict=True))
STEPS, SCALE, TEMPERATURE = 4, 3.0, 0.997


def release(stage, side):
    unet = Release(side, head_channels=16, schedule={"type": SCHEDULES[stage]})
    return GlideRelease(unet, text_heads=2)


def networks(stage, inpaints):
    torch.manual_seed(STAGES.index(stage))
    inputs = 3 * (1 + inpaints + (stage == "upsampler")) + inpaints
    model = twin.Glide(
        inputs, width=32, mult=(1, 2), blocks=1, attends=(1,), heads=1, head_width=16,
        vocab=len(VOCAB), text_ctx=L, xf_width=16, xf_layers=1, xf_heads=2,
    )  # fmt: skip
    return shaken(model)


def build(folder, inpaints):
    """(torch's networks, our stages, the tokenizer, whether it inpaints)."""
    write_words(folder)
    models, held = {}, {}
    for stage, stems in FILES.items():
        models[stage] = networks(stage, inpaints)
        file = folder / f"{stems[inpaints]}.safetensors"
        write_tensors(file, state(models[stage]))
        held[stage] = load_glide(file, release(stage, SIDES[stage]))
    words = load_gpt2_tokenizer(folder, L)
    return models, glide(*held.values(), words), words, inpaints


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return build(tmp_path_factory.mktemp("glide"), False)


@pytest.fixture(scope="module", params=[False, True], ids=["text", "inpainting"])
def chain(request, plain, tmp_path_factory):
    return build(tmp_path_factory.mktemp("glide"), True) if request.param else plain


def noise_of(stage, count):
    """Our noise of a stage: what it starts from, and each step's, in torch's order of axes."""
    keys = per_row(stream(root(stage_seed(SEED, stage)), "sample"), INDEX)
    rows = jax.vmap(lambda k: stream(k, "sampler"))(keys)
    fold = jax.vmap(jax.random.fold_in, in_axes=(0, None))
    shape = (SIDES[stage], SIDES[stage], 3)
    start = normal(jax.vmap(lambda k: stream(k, "prior"))(keys), shape)
    more = [normal(fold(rows, i), shape) for i in range(count - 1)]
    return [torch.tensor(np.moveaxis(np.asarray(z), -1, 1)) for z in (start, *more)]


def theirs(models, tokens, inpaints, image, mask):
    """The notebooks' way: ancestral steps at the base, 27 of DDIM at the upsampler; of ancestral
    ones where it inpaints."""
    ids = torch.tensor(tokens).long()
    null = torch.full_like(ids, END)
    texts = {"tokens": ids, "mask": ids != END}
    stages = {}
    for stage, side in SIDES.items():
        known = first(np.asarray(jax.image.resize(image, (2, side, side, 3), "cubic").clip(-1, 1)))
        keep = 1 - first(mask).repeat_interleave(side // 8, 2).repeat_interleave(side // 8, 3)
        given = {"image": known, "keep": keep} if inpaints else {}
        stages[stage] = given, ({"known": known, "keep": keep} if inpaints else {})
    with torch.no_grad():
        given, held = stages["base"]
        model = twin.guided(
            models["base"], SCALE, **texts, null=null, null_mask=null != END, **given
        )
        start, *more = noise_of("base", STEPS)
        times = twin.spaced_times([STEPS])
        small = twin.draw(model, times, twin.alpha_bars(BARS["base"]), start, more, **held)
        given, held = stages["upsampler"]
        low = ((small + 1) * 127.5).round() / 127.5 - 1
        network = lambda x, t: models["upsampler"](x, t, **texts, low_res=low, **given)  # noqa: E731
        start, *more = noise_of("upsampler", 27)
        times = twin.spaced_times("fast27")
        large = twin.draw(
            network, times, twin.alpha_bars(BARS["upsampler"]), TEMPERATURE * start, more,
            ddim=not inpaints, **held,
        )  # fmt: skip
    return small.numpy().transpose(0, 2, 3, 1), large.numpy().transpose(0, 2, 3, 1)


def test_images_are_equal(chain):
    """Of the whole, and by its stages one after the other."""
    models, model, words, inpaints = chain
    tokens = words.encode(PROMPTS)
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, (2, 16, 16, 3)).astype("f4")
    mask = np.zeros((2, 8, 8, 1), "f4")
    mask[:, 2:5, 3:] = 1
    small, large = theirs(models, tokens, inpaints, image, mask)
    known = {"image": image, "mask": mask} if inpaints else {}
    with jax.default_matmul_precision("highest"):
        whole = draw_glide(model, tokens, SEED, INDEX, options={"base": {"steps": STEPS}}, **known)
        base = draw_base(model, tokens, SEED, INDEX, steps=STEPS, **known)
        up = draw_upsampled(model, base, tokens, SEED, INDEX, **known)
    assert large.std() > 0.1 and np.abs(large).max() <= 1 + 1e-6
    assert np.abs(base - small).max() < 1e-4
    assert np.abs(whole - large).max() < 2e-4  # a level of 256 is 8e-3
    np.testing.assert_array_equal(whole, up)
    if inpaints:
        kept = 1 - np.kron(mask[0, ..., 0], np.ones((2, 2)))[..., None]
        assert np.abs(kept * (whole - image)).max() < 1e-6
        assert np.abs((1 - kept) * (whole - image)).max() > 0.1


@pytest.mark.parametrize(
    ("steps", "spacing", "counts"), [(100, "linspace", [100]), (27, "fast27", "fast27")]
)
@pytest.mark.parametrize("schedule", [Cosine(), Linear()], ids=["cosine", "linear"])
def test_times_and_levels_are_those_of_its_code(steps, spacing, counts, schedule):
    grid, times = make_grid(schedule, steps, spacing), twin.spaced_times(counts)
    np.testing.assert_array_equal(grid.t.t[::-1], times)
    name = "linear" if isinstance(schedule, Linear) else "squaredcos_cap_v2"
    np.testing.assert_allclose(grid.t.alpha[::-1] ** 2, twin.alpha_bars(name)[times], rtol=1e-9)


@pytest.mark.parametrize("wrong", [(26, {}), (27, {"steps": 999}), (27, {"steps": 45})])
def test_its_27_steps_are_27_of_a_table_of_fifths(wrong):
    steps, table = wrong
    with pytest.raises(ValueError, match="spacing='fast27'"):
        make_grid(Linear(**table), steps, "fast27")


def test_a_sample_is_its_own_texts_and_index_alone(plain):
    _, model, words, _ = plain
    tokens = words.encode(PROMPTS)
    short = {"base": {"steps": 2}, "upsampler": {"steps": 2, "spacing": "linspace"}}

    def draw(tokens=tokens, index=INDEX, seed=SEED, **more):
        return np.asarray(draw_glide(model, tokens, seed, index, options=short, **more))

    y = draw()
    np.testing.assert_allclose(draw(tokens[::-1], INDEX[::-1])[::-1], y, atol=1e-4)
    for change in (dict(tokens=tokens[::-1]), dict(seed=4), dict(negative=tokens[::-1])):
        assert np.abs(draw(**change) - y).max() > 1e-3
    noise = {"upsampler": np.ones((2, 16, 16, 3), "f4")}
    assert np.abs(draw(noise=noise) - y).max() > 1e-3
    # Networks without channels for a known image are held to it as any other is.
    image, mask = np.full((2, 16, 16, 3), 0.3, "f4"), np.zeros((2, 8, 8, 1), "f4")
    mask[:, :4] = 1
    held = draw(image=image, mask=mask)
    np.testing.assert_allclose(held[:, 8:], 0.3, atol=1e-6)
    assert np.abs(held[:, :8] - 0.3).max() > 0.1


def test_what_does_not_fit_is_refused_in_a_line(plain, tmp_path):
    models, model, words, _ = plain
    tokens = words.encode(PROMPTS)
    with pytest.raises(ValueError, match="unknown stage of GLIDE 'bass'"):
        draw_glide(model, tokens, SEED, INDEX, options={"bass": {}})
    image = np.zeros((2, 16, 16, 3), "f4")
    with pytest.raises(ValueError, match="both an image and a mask"):
        draw_glide(model, tokens, SEED, INDEX, image=image)
    with pytest.raises(ValueError, match=r"of GLIDE's base is \[B, 8, 8, 1\]"):
        draw_glide(model, tokens, SEED, INDEX, image=image, mask=image[..., :1])
    file = tmp_path / f"{FILES['base'][0]}.safetensors"
    with pytest.raises(ValueError, match=r"holds no base\.pt"):
        open_glide(tmp_path)
    write_tensors(file, state(models["base"]))
    base = load_glide(file, release("base", 8))
    with pytest.raises(ValueError, match="upsampler none"):
        glide(base, base, words)
    up = base._replace(low_res=True)
    small = up.unet._replace(facts={"sample_size": 4})
    with pytest.raises(ValueError, match="of 4 pixels, are below the base's, of 8"):
        glide(base, up._replace(unet=small), words)
    other = base.text._replace(section={**base.text.section, "context": 9})
    with pytest.raises(ValueError, match=r"the base reads .* 9 in a row"):
        glide(base._replace(text=other), up, words)
