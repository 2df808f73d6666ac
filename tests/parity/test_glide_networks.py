"""GLIDE's files: its networks equal an independent PyTorch one with the same weights."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")

from diffjax.interop.files import read_tensors, write_tensors  # noqa: E402
from diffjax.interop.glide import GlideRelease, load_glide, save_glide  # noqa: E402
from diffjax.interop.openai_unet import Release  # noqa: E402
from diffjax.models import build_model  # noqa: E402
from tests.parity.glide_twin import Glide  # noqa: E402
from tests.parity.networks import (  # noqa: E402
    agree,
    draw,
    first,
    ours,
    same_part,
    shaken,
    some,
    state,
)

pytestmark = pytest.mark.parity

SIZE, VOCAB, L, WIDTH, HEADS = 8, 30, 6, 16, 2
RELEASE = GlideRelease(Release(SIZE, head_channels=16), text_heads=HEADS)
# (channels that it is shown, further choices)
CASES = {
    "base": (3, {}),
    "upsample": (6, dict(blocks=2)),
    "base_inpaint": (7, dict(padding=False)),
    "upsample_inpaint": (10, dict(final_ln=False)),
}


def make(inputs, **changes):
    torch.manual_seed(0)
    sizes = dict(
        width=32, mult=(1, 2), blocks=1, attends=(1,), heads=1, head_width=16, vocab=VOCAB,
        text_ctx=L, xf_width=WIDTH, xf_layers=2, xf_heads=HEADS,
    )  # fmt: skip
    return shaken(Glide(inputs, **{**sizes, **changes}))


@pytest.fixture(scope="module", params=some(CASES, "base", "upsample_inpaint"))
def case(request, tmp_path_factory):
    inputs, changes = CASES[request.param]
    model = make(inputs, **changes)
    file = tmp_path_factory.mktemp("glide") / f"{request.param}.pt"
    torch.save(model.state_dict(), file)
    return model, file, inputs


END = VOCAB - 1
TOKENS = np.array([[3, 4, END, END, END, END], [END] * L, [1, 2, 3, 4, 5, 6]], np.int32)


def test_forward_is_equal(case):
    model, file, inputs = case
    held = load_glide(file, RELEASE)
    assert held.unet.facts == {"sample_size": SIZE}
    assert (held.low_res, held.inpaints) == (inputs in (6, 10), inputs in (7, 10))
    x, t = draw(SIZE, 3), np.array([0, 250, 999])
    rng = np.random.default_rng(1)
    small, image = (rng.uniform(-1, 1, (3, s, s, 3)).astype("f4") for s in (SIZE // 2, SIZE))
    keep = (rng.uniform(size=(3, SIZE, SIZE, 1)) < 0.5).astype("f4")
    given = {"low_res": first(small)} if held.low_res else {}
    given |= {"image": first(image), "keep": first(keep)} if held.inpaints else {}
    ids, mask = torch.tensor(TOKENS).long(), torch.tensor(TOKENS != END)
    with torch.no_grad():
        ref, words = model(first(x), torch.tensor(t), ids, mask, **given), model.read(ids, mask)
        upsampled = torch.nn.functional.interpolate(first(small), (SIZE, SIZE), mode="bilinear")
    text = build_model(**held.text.section)
    context = np.asarray(text.apply(held.text.variables, TOKENS))
    np.testing.assert_allclose(context, words.numpy(), rtol=1e-4, atol=1e-5)
    vector = np.asarray(text.apply(held.text.variables, TOKENS, pooled=True))
    np.testing.assert_array_equal(vector, context[:, -1])
    concat = [image * keep, keep] if held.inpaints else []
    concat += [upsampled.numpy().transpose(0, 2, 3, 1)] if held.low_res else []
    more = {"concat": np.concatenate(concat, -1)} if concat else {}
    agree(ours(held.unet, x, t, context=context, vector=vector, **more), ref)


def test_networks_go_both_ways(case, tmp_path):
    model, file, _ = case
    held = load_glide(file, RELEASE)
    save_glide(tmp_path / "a.safetensors", held.unet, held.text, RELEASE)
    again = load_glide(tmp_path / "a.safetensors", RELEASE)
    same_part(held.unet, again.unet)
    same_part(held.text, again.text)
    back, own = read_tensors(tmp_path / "a.safetensors"), state(model)
    assert back.keys() == own.keys()
    assert all(np.array_equal(back[key], own[key]) for key in own)


def test_the_published_networks_are_sampled_as_the_notebooks_do(tmp_path):
    found = {}
    for name, (inputs, _) in CASES.items():
        model = make(inputs, head_width=64, width=64, xf_width=512, xf_heads=8)
        write_tensors(tmp_path / "a.safetensors", state(model))
        found[name] = load_glide(tmp_path / "a.safetensors")
    assert [f.unet.facts["sample_size"] for f in found.values()] == [64, 256, 64, 256]
    assert [f.sampling.schedule["type"] for f in found.values()] == ["cosine", "linear"] * 2
    recipes = {name: f.sampling.recipe for name, f in found.items()}
    assert recipes["base"]["sampler"] == "ddpm" and recipes["base"]["variance"] == "learned"
    assert (recipes["base"]["steps"], recipes["base"]["guidance"]) == (100, 3.0)
    assert recipes["upsample"]["sampler"] == "ddim" and "guidance" not in recipes["upsample"]
    assert recipes["upsample_inpaint"] == {
        **recipes["upsample"], "sampler": "ddpm", "variance": "learned",
    }  # fmt: skip
    assert found["base"].text.section["heads"] == 8
    assert found["base"].unet.section["head_channels"] == 64


def test_a_file_that_is_no_such_network_is_refused_in_a_line(tmp_path):
    weights = state(make(3))
    without = lambda word: {k: v for k, v in weights.items() if word not in k}  # noqa: E731
    zeros = lambda *shape: np.zeros(shape, np.float32)  # noqa: E731
    wrong = {
        "has no text transformer": {k: v for k, v in weights.items() if "blocks" in k
                                    and not k.startswith("transformer.")},
        "is shown 5 channels": {**weights, "input_blocks.0.0.weight": zeros(32, 5, 3, 3)},
        r"missing.*encoder_kv": without("middle_block.1.encoder_kv"),
        r"missing.*c_proj": without("resblocks.1.attn.c_proj"),
        "unexpected.*unemb": {**weights, "unemb.weight": zeros(VOCAB, WIDTH)},
        "lack 'positional_embedding'": without("positional_embedding"),
        "shapes differ": {**weights, "transformer_proj.weight": zeros(128, 7)},
        "gives 3 channels": {**weights, "out.2.bias": zeros(3)},
    }  # fmt: skip
    file = tmp_path / "a.safetensors"
    for said, tensors in wrong.items():
        write_tensors(file, tensors)
        with pytest.raises(ValueError, match=said) as caught:
            load_glide(file, RELEASE)
        assert "\n" not in str(caught.value) and str(file) in str(caught.value)
    write_tensors(file, weights)
    with pytest.raises(ValueError, match="of 16 channels has no 3 heads"):
        load_glide(file, GlideRelease(RELEASE.unet, text_heads=3))
    held = load_glide(file, RELEASE)
    with pytest.raises(ValueError, match="no networks of GLIDE"):
        save_glide(file, held.unet, held.unet, RELEASE)
