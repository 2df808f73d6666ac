"""A whole Karlo: images equal diffusers' `UnCLIPPipeline`'s of the same noise; its folder."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")
diffusers = pytest.importorskip("diffusers", reason="parity needs diffusers: '.[parity]'")
pytest.importorskip("transformers", reason="parity needs transformers: '.[parity]'")

from diffjax.diffusion.schedules import Cosine  # noqa: E402
from diffjax.generate.unclip import (  # noqa: E402
    STAGES,
    draw_embedding,
    draw_large,
    draw_small,
    draw_unclip,
)
from diffjax.interop.unclip import check_stages, load_unclip, save_unclip  # noqa: E402
from diffjax.keys import normal, per_row, root, stage_seed, stream  # noqa: E402
from diffjax.pretrained.unclip import open_unclip  # noqa: E402
from tests.parity.networks import same_part  # noqa: E402
from tests.parity.unclip import EMBED, SIZE, pipeline  # noqa: E402

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore::FutureWarning")]

PROMPTS, SEED, INDEX = ["a red ball on a cube", "two blue cubes"], 3, np.arange(2)
SHAPES = dict(zip(STAGES, [(EMBED,), (SIZE, SIZE, 3), (2 * SIZE, 2 * SIZE, 3)], strict=True))
STEPS = {"prior": 5, "decoder": 4, "upsampler": 3}
PARTS = ("text", "prior", "projection", "decoder", "upsampler", "last_upsampler")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("karlo")
    pipeline(root / "words").save_pretrained(root / "model")
    return root / "model"


def noise_of(stage):
    """Our noise of a stage: what it starts from, and each row's, in torch's order of axes."""
    keys = per_row(stream(root(stage_seed(SEED, stage)), "sample"), INDEX)
    rows = jax.vmap(lambda k: stream(k, "sampler"))(keys)
    fold = jax.vmap(jax.random.fold_in, in_axes=(0, None))
    first = normal(jax.vmap(lambda k: stream(k, "prior"))(keys), SHAPES[stage])
    more = [normal(fold(rows, i), SHAPES[stage]) for i in range(STEPS[stage] - 1)]
    return [torch.tensor(np.moveaxis(np.asarray(z), -1, 1)) for z in (first, *more)]


def opened(folder):
    """Their pipeline, which no longer finds its own module by the name of released folders."""
    from diffusers import pipelines
    from diffusers.pipelines.deprecated import unclip

    pipelines.unclip = unclip
    index = folder / "model_index.json"
    said = json.loads(index.read_text())
    said["text_proj"] = ["unclip", "UnCLIPTextProjModel"]  # it writes what it cannot read
    index.write_text(json.dumps(said))
    pipe = unclip.UnCLIPPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def theirs(folder, monkeypatch):
    """Images `[B, H, W, 3]` in [-1, 1], by our float64 table: their last step multiplies what it
    ends at by beta_0 / (1 - alpha_0), which float32 makes 0.9995."""
    import diffusers.schedulers.scheduling_unclip as module

    pipe = opened(folder)
    for scheduler in (pipe.prior_scheduler, pipe.decoder_scheduler, pipe.super_res_scheduler):
        table = Cosine().alphas_cumprod
        assert np.abs(scheduler.alphas_cumprod.numpy() / table - 1).max() < 1e-4
        scheduler.alphas_cumprod = torch.from_numpy(table)
    noise = {stage: noise_of(stage) for stage in STAGES}
    queue = [z for stage in STAGES for z in noise[stage][1:]]
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: queue.pop(0))
    images = pipe(
        PROMPTS, prior_num_inference_steps=STEPS["prior"], output_type="np",
        decoder_num_inference_steps=STEPS["decoder"],
        super_res_num_inference_steps=STEPS["upsampler"], prior_latents=noise["prior"][0],
        decoder_latents=noise["decoder"][0], super_res_latents=noise["upsampler"][0],
        prior_guidance_scale=4.0, decoder_guidance_scale=8.0,
    ).images  # fmt: skip
    assert not queue
    return 2 * np.asarray(images) - 1


def test_images_are_equal(folder, monkeypatch):
    """Of the whole, and by its stages one after the other."""
    model, words = open_unclip(str(folder))
    tokens, negative = words.encode(PROMPTS), np.tile(words.null_ids, (2, 1))
    options = {stage: {"steps": n} for stage, n in STEPS.items()}
    expected, drawn = theirs(folder, monkeypatch), (SEED, INDEX)
    with jax.default_matmul_precision("highest"):
        whole = np.asarray(draw_unclip(model, tokens, negative, *drawn, options=options))
        e = draw_embedding(model, tokens, negative, *drawn, **options["prior"])
        small = draw_small(model, e, tokens, negative, *drawn, **options["decoder"])
        large = draw_large(model, small, *drawn, **options["upsampler"])
    assert whole.shape == expected.shape == (2, 2 * SIZE, 2 * SIZE, 3)
    assert expected.std() > 0.1
    assert np.abs(whole - expected).max() < 1e-4
    np.testing.assert_array_equal(large, whole)


def test_a_folder_goes_both_ways(folder, tmp_path):
    held = load_unclip(folder)
    save_unclip(tmp_path, held)
    ours = json.loads((tmp_path / "model_index.json").read_text())
    index = json.loads((folder / "model_index.json").read_text())
    # As in the released folder.
    assert ours == {k: v for k, v in index.items() if k != "_diffusers_version"} | {
        "text_proj": ["unclip", "UnCLIPTextProjModel"]
    }
    read = opened(tmp_path).components
    for name, module in opened(folder).components.items():
        if isinstance(module, torch.nn.Module):
            back, own = read[name].state_dict(), module.state_dict()
            assert back.keys() == own.keys()
            assert all(torch.equal(back[key], own[key]) for key in own), name
    again = load_unclip(tmp_path)
    for name in PARTS:
        a, b = getattr(again, name), getattr(held, name)
        same_part(a._replace(facts={}), b._replace(facts={}))
    for name in ("mean", "std"):
        np.testing.assert_array_equal(again.prior.facts[name], held.prior.facts[name])
    for stage in ("prior", "decoder", "upsampler"):
        assert getattr(again, f"{stage}_sampling") == getattr(held, f"{stage}_sampling")


def test_stages_that_do_not_fit_are_named(folder, tmp_path):
    held = load_unclip(folder)
    prior, decoder, upsampler = held.prior, held.decoder, held.upsampler
    for change, said in (
        (dict(prior=prior._replace(section={**prior.section, "context_length": 9})),
         "the prior's context and the text tower's are 9 and 77"),
        (dict(prior=prior._replace(section={**prior.section, "vector_dim": 9})),
         "the prior's embedding and its text's are 12 and 9"),
        (dict(decoder=decoder._replace(section={**decoder.section, "vector_dim": 9})),
         "the projection's vector and the decoder's are 64 and 9"),
        (dict(decoder=decoder._replace(facts={})), "does not say its sample_size"),
        (dict(decoder=decoder._replace(facts={"sample_size": 32})), "below the decoder's, of 32"),
        (dict(upsampler=upsampler._replace(facts={"sample_size": 32})),
         "the two upsamplers' sizes are 32 and 16"),
        (dict(decoder_sampling=held.upsampler_sampling),
         "the decoder's channels and those it gives are 3 and 6"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            check_stages(replace(held, **change))
    with pytest.raises(ValueError, match="holds no tokenizer"):
        save_unclip(tmp_path, replace(held, tokenizer=tmp_path))
    with pytest.raises(ValueError, match="no folder of a diffusers pipeline"):
        load_unclip(tmp_path)
