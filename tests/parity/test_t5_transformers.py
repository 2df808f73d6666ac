"""T5's encoder equals transformers' `T5EncoderModel`, and folders of a T5 are read and written."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")
transformers = pytest.importorskip("transformers", reason="parity needs transformers: '.[parity]'")

from transformers.models.t5.modeling_t5 import T5Attention  # noqa: E402

from diffjax.interop.files import read_tensors, write_tensors  # noqa: E402
from diffjax.interop.t5 import load_t5, save_t5  # noqa: E402
from diffjax.models import build_model  # noqa: E402
from diffjax.models.t5 import relative_buckets  # noqa: E402
from tests.parity.networks import same_part, shaken  # noqa: E402
from tests.parity.text_encoders import (  # noqa: E402
    MASK,
    VOCAB,
    WEIGHTS,
    L,
    altered,
    far,
    ours,
    texts,
    theirs,
)

pytestmark = pytest.mark.parity

# Heads that do not fill the width, and fewer buckets than positions.
SIZES = dict(
    vocab_size=VOCAB, d_model=16, d_kv=6, d_ff=24, num_layers=2, num_heads=3,
    relative_attention_num_buckets=8, relative_attention_max_distance=20,
)  # fmt: skip


@pytest.fixture(scope="module", params=["relu", "gated-gelu"])
def pair(request, tmp_path_factory):
    """(their encoder, the folder it was saved in)."""
    torch.manual_seed(0)
    config = transformers.T5Config(feed_forward_proj=request.param, **SIZES)
    model = shaken(transformers.T5EncoderModel(config), 0.1)
    folder = tmp_path_factory.mktemp("t5")
    model.save_pretrained(folder)
    return model, folder


@pytest.mark.parametrize("masked", [False, True])
def test_features_are_equal(pair, masked):
    model, folder = pair
    part, tokens = load_t5(folder), texts()
    mask = MASK if masked else None
    got = ours(part, tokens, mask)
    assert got.dtype == np.float32
    assert far(got, theirs(model, tokens, mask).last_hidden_state, mask) < 1e-5
    other = theirs(model, tokens, None if masked else MASK).last_hidden_state
    assert far(got, other, MASK) > 1e-3


def test_padding_is_what_the_id_says(pair):
    """By default: at the config's `pad_token_id`; and nothing at padding reaches the text."""
    part, tokens = load_t5(pair[1]), texts()
    padded = np.where(MASK, tokens, part.section["pad"])
    got = ours(part, padded)
    np.testing.assert_array_equal(got, ours(part, padded, MASK))
    np.testing.assert_allclose(got[MASK], ours(part, tokens, MASK)[MASK], rtol=1e-5, atol=1e-6)
    mean = ours(part, padded, pooled=True)
    expected = [row[seen].mean(0) for row, seen in zip(got, MASK, strict=True)]
    np.testing.assert_allclose(mean, expected, rtol=1e-4, atol=1e-5)


def test_the_last_block_is_left_out_on_demand(pair):
    model, folder = pair
    got = ours(load_t5(folder), texts(), np.ones_like(MASK), skip=1)
    with torch.inference_mode():
        hidden = theirs(model, texts(), None).hidden_states[1]
        assert far(got, model.encoder.final_layer_norm(hidden)) < 1e-5


@pytest.mark.parametrize(("length", "buckets", "distance"), [(700, 32, 128), (60, 8, 20)])
def test_buckets_are_theirs(length, buckets, distance):
    place = torch.arange(length)
    ahead = place[None, :] - place[:, None]
    expected = T5Attention._relative_position_bucket(ahead, True, buckets, distance)
    got = relative_buckets(length, buckets, distance)
    np.testing.assert_array_equal(got, expected.numpy())
    assert len(np.unique(got)) == buckets - 1  # none is of distance 0 and after


def test_half_precision_and_recomputation_change_little(pair):
    part, tokens = load_t5(pair[1]), texts()
    whole, mask = ours(part, tokens, MASK), MASK
    for change, most in ((dict(remat=True), 1e-6), (dict(dtype="bfloat16"), 3e-2)):
        got = ours(part._replace(section={**part.section, **change}), tokens, mask)
        assert far(got, torch.tensor(whole), mask) < most


def test_a_folder_goes_both_ways(pair, tmp_path):
    model, folder = pair
    part = load_t5(folder)
    save_t5(tmp_path / "a", part)
    again, report = transformers.T5EncoderModel.from_pretrained(
        tmp_path / "a", output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    assert again.config.feed_forward_proj == model.config.feed_forward_proj
    assert {k: getattr(again.config, k) for k in SIZES} == SIZES
    same_part(load_t5(tmp_path / "a"), part)


@pytest.mark.parametrize("kind", ["T5Model", "T5ForConditionalGeneration"])
def test_of_a_whole_model_the_encoder_is_read(tmp_path, kind):
    torch.manual_seed(1)
    model = shaken(getattr(transformers, kind)(transformers.T5Config(**SIZES)))
    model.save_pretrained(tmp_path)
    part = load_t5(tmp_path)
    encoder = transformers.T5EncoderModel.from_pretrained(tmp_path).eval()
    expected = theirs(encoder, texts(), MASK).last_hidden_state
    assert far(ours(part, texts(), MASK), expected, MASK) < 1e-5
    # As older files have it: a copy of the table under the encoder's name, or that alone.
    held = read_tensors(tmp_path / WEIGHTS)
    table = held.pop("shared.weight")
    held.pop("encoder.embed_tokens.weight", None)
    for more in ({"shared.weight": table}, {}):
        write_tensors(tmp_path / WEIGHTS, {**held, **more, "encoder.embed_tokens.weight": table})
        same_part(load_t5(tmp_path), part)
    held |= {"shared.weight": table, "encoder.embed_tokens.weight": table + 1}
    write_tensors(tmp_path / WEIGHTS, held)
    with pytest.raises(ValueError, match=r"embed_tokens\.weight differs from shared"):
        load_t5(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(model_type="umt5"), "is of a 'umt5' model, not of a 't5'"),
        (dict(feed_forward_proj="gated-silu"), "feed_forward_proj='gated-silu' must be one of"),
        (dict(num_layers=3), "num_layers=3, but the weights beside it have 2"),
        (dict(num_layers=10**9), "num_layers=1000000000 must be a whole number"),
        (dict(num_heads=6), "num_heads=6, but the weights beside it have 3"),
        (dict(d_kv=5), "num_heads * d_kv=15, but the weights beside it have 18"),
        (dict(d_ff=5), "d_ff=5, but the weights beside it have 24"),
        (dict(vocab_size=41), "vocab_size=41, but the weights beside it have 40"),
        (dict(relative_attention_num_buckets=12), "relative_attention_num_buckets=12, but"),
        (dict(relative_attention_max_distance=2), "a number that is less than the distance"),
        (dict(layer_norm_epsilon=0), "layer_norm_epsilon=0 must be a number"),
        (dict(pad_token_id="x"), "pad_token_id='x' must be a whole number"),
    ],
)
def test_another_network_is_one_line(pair, tmp_path, change, said):
    with pytest.raises(ValueError) as error:
        load_t5(altered(pair[1], tmp_path / "a", change))
    assert said in str(error.value) and "\n" not in str(error.value)
    assert str(tmp_path / "a") in str(error.value)


def test_the_gate_is_held_against_the_config(pair, tmp_path):
    said = pair[0].config.feed_forward_proj
    other = "relu" if said != "relu" else "gated-gelu"
    with pytest.raises(ValueError, match=f"feed_forward_proj='{other}', but .* have '{said}'"):
        load_t5(altered(pair[1], tmp_path / "a", dict(feed_forward_proj=other)))


def test_missing_and_foreign_tensors_are_named(pair, tmp_path):
    held = read_tensors(pair[1] / WEIGHTS)
    altered(pair[1], tmp_path, {})
    write_tensors(tmp_path / WEIGHTS, {**held, "encoder.more": np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match=r"unexpected \['encoder.more'\]"):
        load_t5(tmp_path)
    del held["encoder.block.1.layer.0.layer_norm.weight"]
    write_tensors(tmp_path / WEIGHTS, held)
    with pytest.raises(ValueError, match=r"missing \['encoder.block.1.layer.0.layer_norm.weight'"):
        load_t5(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match=r"config\.json is missing"):
        load_t5(tmp_path)


def test_what_theirs_has_no_place_for_is_refused(pair, tmp_path):
    part = load_t5(pair[1])
    gated = part.section["gated"]
    for change, said in (
        (dict(gated=not gated), "activation="),
        (dict(type="text"), "this network is not one"),
        (dict(width=24), "but the section's network has"),
    ):
        with pytest.raises(ValueError, match=said):
            save_t5(tmp_path, part._replace(section={**part.section, **change}))


@pytest.mark.parametrize(
    ("change", "how", "said"),
    [
        (dict(dtype="float16"), {}, "overflows float16"),
        (dict(buckets=6), {}, "buckets=6, distance=20"),
        ({}, dict(skip=2), "skip=2 of them cannot be left out"),
    ],
)
def test_what_cannot_be_computed_is_refused(change, how, said):
    network = build_model(
        "t5", vocab=VOCAB, width=8, depth=2, heads=2, **{"distance": 20, **change}
    )
    with pytest.raises(ValueError, match=said):
        network.init({}, texts(), **how)
    with pytest.raises(ValueError, match=r"needs \[B, L\]"):
        build_model("t5").init({}, np.zeros(L, np.int32))
