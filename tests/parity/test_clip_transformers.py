"""CLIP equals transformers' `CLIPModel` with the same weights, and its folders go both ways."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from diffjax.interop.clip import load_clip, save_clip
from diffjax.models import build_model
from diffjax.models.clip import MEAN, STD

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")
transformers = pytest.importorskip("transformers", reason="parity needs transformers: '.[parity]'")

pytestmark = pytest.mark.parity

VOCAB, EOS, CONTEXT, SIZE = 64, 60, 12, 24


def towers(act, eos):
    """Neither tower has the sizes of the other, nor 64 channels per head, nor an MLP of four."""
    text = dict(hidden_size=32, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
                vocab_size=VOCAB, max_position_embeddings=CONTEXT, hidden_act=act,
                bos_token_id=VOCAB - 2, eos_token_id=eos)  # fmt: skip
    vision = dict(hidden_size=48, intermediate_size=192, num_hidden_layers=2,
                  num_attention_heads=3, image_size=SIZE, patch_size=8, hidden_act=act,
                  layer_norm_eps=1e-5)  # fmt: skip
    return transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=20)


@pytest.fixture(
    scope="module",
    params=[("quick_gelu", EOS), ("gelu", 2), ("gelu_pytorch_tanh", 2)],
    ids=["quick_first_eos", "erf_argmax", "tanh_argmax"],
)
def pair(request, tmp_path_factory):
    """(their model, the folder it was saved in)."""
    torch.manual_seed(0)
    model = transformers.CLIPModel(towers(*request.param)).eval()
    # Norms and biases away from 1 and 0, so that a swapped pair would show.
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    folder = tmp_path_factory.mktemp("theirs")
    model.save_pretrained(folder)
    return model, folder


def inputs():
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, (3, SIZE, SIZE, 3)).astype(np.float32)
    tokens = rng.integers(1, EOS, (3, CONTEXT)).astype(np.int32)
    # A text that goes on after its end, one that fills the context, one with two ends.
    (
        tokens[0, 5],
        tokens[1, -1],
        tokens[
            2,
            (4, 7),
        ],
    ) = EOS, EOS, EOS
    return image, tokens


def their_features(model, image, tokens):
    pixels = ((image + 1) / 2 - np.array(MEAN)) / np.array(STD)
    pixels = torch.tensor(pixels.transpose(0, 3, 1, 2), dtype=torch.float32)
    with torch.no_grad():
        vision = model.vision_model(pixel_values=pixels).pooler_output
        text = model.text_model(input_ids=torch.tensor(tokens, dtype=torch.long))
        # The model's own `image_embeds` are normalised; the features are what they are made of.
        features = model.visual_projection(vision), model.text_projection(text.pooler_output)
    return [f.numpy() for f in features]


def relative(a, b):
    return np.linalg.norm(np.asarray(a) - b) / np.linalg.norm(b)


def ours(section, variables, image, tokens):
    with jax.default_matmul_precision("highest"):
        return jax.jit(build_model(**section).apply)(variables, image, tokens)


def test_features_are_equal(pair):
    model, folder = pair
    image, tokens = inputs()
    image_ref, text_ref = their_features(model, image, tokens)
    out = ours(*load_clip(folder), image, tokens)
    assert relative(out["image"], image_ref) < 1e-5
    assert relative(out["text"], text_ref) < 1e-5
    assert float(out["log_scale"]) == model.logit_scale.item()


def test_token_features_are_equal(pair):
    """The last layer after its norm, and the last but one: for Stable Diffusion 1 and 2."""
    model, folder = pair
    _, tokens = inputs()
    section, variables = load_clip(folder)
    clip = build_model(**section)
    with torch.no_grad():
        ids = torch.tensor(tokens, dtype=torch.long)
        text = model.text_model(input_ids=ids, output_hidden_states=True)
        before = text.hidden_states[-2]
        normed = model.text_model.final_layer_norm(before)
    own = {"params": variables["params"]["text"]}
    kinds = (dict(), dict(skip=1, norm=False), dict(skip=1))
    apply = lambda v, ids: [clip.text.apply(v, ids, pooled=False, **kind) for kind in kinds]  # noqa: E731
    with jax.default_matmul_precision("highest"):
        features = jax.jit(apply)(own, tokens)
    for got, ref in zip(features, (text.last_hidden_state, before, normed), strict=True):
        assert relative(got, ref.numpy()) < 1e-5


def test_an_exported_folder_loads_in_transformers(pair, tmp_path):
    model, folder = pair
    section, variables = load_clip(folder)
    save_clip(tmp_path, section, variables, "huggingface")
    again, report = transformers.CLIPModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    image, tokens = inputs()
    for a, b in zip(
        their_features(again.eval(), image, tokens),
        their_features(model, image, tokens),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    processor = transformers.CLIPImageProcessor.from_pretrained(tmp_path)
    np.testing.assert_allclose(processor.image_mean, MEAN)
    assert processor.crop_size["height"] == SIZE


def test_export_and_import_keep_every_byte(pair, tmp_path):
    section, variables = load_clip(pair[1])
    save_clip(tmp_path / "a", section, variables, "huggingface")
    section_again, again = load_clip(tmp_path / "a")
    assert section_again == {**section, "mean": MEAN, "std": STD}
    before, after = (flatten_dict(v, sep="/") for v in (variables, again))
    assert before.keys() == after.keys()
    assert all(before[k].tobytes() == after[k].tobytes() for k in before)
    save_clip(tmp_path / "b", section, again, "huggingface")
    file = "model.safetensors"
    assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_torch_files_and_half_precision_give_the_same(pair, tmp_path):
    """A `pytorch_model.bin` reads as the safetensors do; half precision is widened, exactly."""
    model, folder = pair
    section, variables = load_clip(folder)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        state = {k: v.to(dtype) for k, v in model.state_dict().items()}
        torch.save(state, tmp_path / "pytorch_model.bin")
        (tmp_path / "config.json").write_text((folder / "config.json").read_text())
        got_section, got = load_clip(tmp_path)
        assert got_section == section
        table = flatten_dict(got, sep="/")["params/text/table"]
        assert table.dtype == np.float32
        ref = state["text_model.embeddings.token_embedding.weight"].float().numpy()
        np.testing.assert_array_equal(table, ref)
    before = flatten_dict(variables, sep="/")["params/text/table"]
    assert np.abs(table - before).max() > 0  # bfloat16 did round
