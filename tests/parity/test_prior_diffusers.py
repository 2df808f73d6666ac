"""The prior equals diffusers' `PriorTransformer`, and folders of it are read and written."""

import json

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")
diffusers = pytest.importorskip("diffusers", reason="parity needs diffusers: '.[parity]'")

from diffjax.interop.prior import load_prior, save_prior  # noqa: E402
from diffjax.models import build_model  # noqa: E402
from diffjax.models.conditioning import Conditioning  # noqa: E402
from tests.parity.networks import same_part, shaken  # noqa: E402

pytestmark = pytest.mark.parity

E, L, B = 12, 7, 3
TIMES = np.array([0.0, 250.0, 999.0])
MASK = np.arange(L)[None, :] < np.array([L, 3, 1])[:, None]


@pytest.fixture(scope="module", params=[{}, dict(embedding_proj_dim=8)], ids=["plain", "narrow"])
def pair(request, tmp_path_factory):
    torch.manual_seed(0)
    model = shaken(
        diffusers.PriorTransformer(
            num_attention_heads=2, attention_head_dim=8, num_layers=2, embedding_dim=E,
            num_embeddings=L, **request.param,
        )
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("prior")
    model.save_pretrained(folder)
    return model, folder


def inputs(model):
    """A noisy embedding, the text's embedding, the encoded text."""
    rng = np.random.default_rng(0)
    vector = model.config.embedding_proj_dim or E
    return [rng.standard_normal(s).astype("f4") for s in ((B, E), (B, vector), (B, L, E))]


def run(model, masked):
    x, vector, context = (torch.tensor(a) for a in inputs(model))
    mask = torch.tensor(MASK) if masked else None
    with torch.inference_mode():
        out = model(x, torch.tensor(TIMES), vector, context, mask)
    return out.predicted_image_embedding.numpy()


@pytest.mark.parametrize("masked", [True, False])
def test_forward_is_equal(pair, masked):
    """Without a mask theirs is not causal either."""
    model, folder = pair
    part = load_prior(folder)
    x, vector, context = inputs(model)
    network = build_model(**{**part.section, "causal": masked})
    cond = Conditioning(vector=vector, context=context, context_mask=MASK if masked else None)
    got = jax.jit(network.apply)(part.variables, x, TIMES.astype("f4"), cond)
    expected = run(model, masked)
    assert np.abs(got - expected).max() < 1e-4 * np.abs(expected).max()
    other = run(model, not masked)
    assert np.abs(got - other).max() > 1e-2 * np.abs(expected).max()


def test_a_folder_goes_both_ways(pair, tmp_path):
    model, folder = pair
    part = load_prior(folder)
    np.testing.assert_array_equal(part.facts["std"], model.clip_std.detach().numpy()[0])
    save_prior(tmp_path / "a", part)
    again, report = diffusers.PriorTransformer.from_pretrained(
        tmp_path / "a", output_loading_info=True, low_cpu_mem_usage=False
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    theirs = {k: v for k, v in model.config.items() if k[0] != "_"}
    assert {k: again.config[k] for k in theirs} == theirs
    back = load_prior(tmp_path / "a")
    same_part(back._replace(facts={}), part._replace(facts={}))
    for key in ("mean", "std"):
        np.testing.assert_array_equal(back.facts[key], part.facts[key])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(num_layers=3), "num_layers=3, but the weights beside it have 2"),
        (dict(added_emb_type=None), "added_emb_type=None is not supported"),
        (dict(norm_in_type="layer"), "norm_in_type='layer' is not supported"),
        (dict(clip_embed_dim=5), "it would predict other embeddings than it is given"),
        (dict(time_embed_dim=5), "time_embed_dim=5 is not supported"),
        (dict(num_embeddings=6), "num_embeddings + additional_embeddings=10, but"),
    ],
)
def test_another_network_is_one_line(pair, tmp_path, change, said):
    _, folder = pair
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    weights = "diffusion_pytorch_model.safetensors"
    (tmp_path / weights).write_bytes((folder / weights).read_bytes())
    with pytest.raises(ValueError) as error:
        load_prior(tmp_path)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_what_theirs_has_no_place_for_is_refused(pair, tmp_path):
    part = load_prior(pair[1])
    for change, said in (
        (dict(causal=False), "causal=False"),
        (dict(activation="quick_gelu"), "activation='quick_gelu'"),
        (dict(type="text"), "this network is not one"),
    ):
        with pytest.raises(ValueError, match=said):
            save_prior(tmp_path, part._replace(section={**part.section, **change}))
