"""unCLIP's projections equal diffusers' `UnCLIPTextProjModel`, and its folders go both ways."""

import json

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")
diffusers = pytest.importorskip("diffusers", reason="parity needs diffusers: '.[parity]'")

from diffjax.interop.clip_projection import (  # noqa: E402
    load_clip_projection,
    save_clip_projection,
)
from diffjax.models import build_model  # noqa: E402
from tests.parity.networks import same_part, shaken  # noqa: E402

pytestmark = pytest.mark.parity

E, L, B = 12, 7, 3
MASK = np.arange(L)[None, :] < np.array([L, 3, 1])[:, None]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    from diffusers.pipelines.deprecated.unclip import UnCLIPTextProjModel

    torch.manual_seed(0)
    model = shaken(
        UnCLIPTextProjModel(
            clip_extra_context_tokens=3, clip_embeddings_dim=E, time_embed_dim=10,
            cross_attention_dim=8,
        )
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("projection")
    model.save_pretrained(folder)
    return model, folder


def test_forward_is_equal(pair):
    """Theirs puts the null in the first half of a doubled batch."""
    model, folder = pair
    rng = np.random.default_rng(0)
    image = rng.standard_normal((B, E)).astype("f4")
    text, context = (rng.standard_normal(s).astype("f4") for s in ((2 * B, E), (2 * B, L, E)))
    with torch.inference_mode():
        tokens, vector = model(
            image_embeddings=torch.tensor(image), prompt_embeds=torch.tensor(text),
            text_encoder_hidden_states=torch.tensor(context), do_classifier_free_guidance=True,
        )  # fmt: skip
    part = load_clip_projection(folder)
    dropped = np.arange(2 * B) < B
    twice, mask = np.concatenate([image, image]), np.concatenate([MASK, MASK])
    apply = jax.jit(build_model(**part.section).apply)
    got = apply(part.variables, twice, text, context, mask, dropped)
    for ours, theirs in ((got.context, tokens.numpy()), (got.vector, vector.numpy())):
        assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()
    assert np.abs(got.vector[:B] - got.vector[B:]).max() > 0.1
    np.testing.assert_array_equal(got.context_mask, np.pad(mask, ((0, 0), (3, 0)), "edge"))


def test_a_folder_goes_both_ways(pair, tmp_path):
    model, folder = pair
    part = load_clip_projection(folder)
    save_clip_projection(tmp_path, part)
    again, report = type(model).from_pretrained(
        tmp_path, output_loading_info=True, low_cpu_mem_usage=False
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    theirs = {k: v for k, v in model.config.items() if k[0] != "_"}
    assert {k: again.config[k] for k in theirs} == theirs
    same_part(load_clip_projection(tmp_path), part)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(clip_extra_context_tokens=2), "clip_extra_context_tokens=2, but the weights"),
        (dict(clip_embeddings_dim=11), "clip_embeddings_dim=11, but the weights"),
        (dict(time_embed_dim=0), "time_embed_dim=0 must be"),
        (dict(more=3), "more=3 is not supported"),
    ],
)
def test_another_network_is_one_line(pair, tmp_path, change, said):
    _, folder = pair
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    weights = "diffusion_pytorch_model.safetensors"
    (tmp_path / weights).symlink_to(folder / weights)
    with pytest.raises(ValueError) as error:
        load_clip_projection(tmp_path)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_what_theirs_has_no_place_for_is_refused(pair, tmp_path):
    part = load_clip_projection(pair[1])
    for change, said in (
        (dict(eps=1e-6), "eps=1e-06"),
        (dict(type="prior"), "this network is not one"),
    ):
        with pytest.raises(ValueError, match=said):
            save_clip_projection(tmp_path, part._replace(section={**part.section, **change}))
