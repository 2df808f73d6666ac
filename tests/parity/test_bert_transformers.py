"""BERT equals transformers' `BertModel`, and its folders are read and written."""

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")
transformers = pytest.importorskip("transformers", reason="parity needs transformers: '.[parity]'")

from diffjax.interop.bert import load_bert, save_bert  # noqa: E402
from diffjax.interop.files import read_tensors, write_tensors  # noqa: E402
from diffjax.models import build_model  # noqa: E402
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

SIZES = dict(
    vocab_size=VOCAB, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
    intermediate_size=24, max_position_embeddings=L + 2, type_vocab_size=3,
)  # fmt: skip


@pytest.fixture(scope="module", params=["gelu", "gelu_new"])
def pair(request, tmp_path_factory):
    """(their model, the folder it was saved in)."""
    torch.manual_seed(0)
    config = transformers.BertConfig(hidden_act=request.param, **SIZES)
    model = shaken(transformers.BertModel(config), 0.2)
    folder = tmp_path_factory.mktemp("bert")
    model.save_pretrained(folder)
    return model, folder


@pytest.mark.parametrize("masked", [False, True])
def test_features_are_equal(pair, masked):
    model, folder = pair
    part, tokens = load_bert(folder), texts()
    mask = MASK if masked else None
    out = theirs(model, tokens, mask)
    got = ours(part, tokens, mask)
    assert got.dtype == np.float32
    assert far(got, out.last_hidden_state, mask) < 1e-5
    assert far(ours(part, tokens, mask, pooled=True)[:, None], out.pooler_output[:, None]) < 1e-5
    assert far(ours(part, tokens, mask, skip=1), out.hidden_states[1], mask) < 1e-5
    other = theirs(model, tokens, None if masked else MASK).last_hidden_state
    assert far(got, other, MASK) > 1e-3


def test_padding_is_what_the_id_says(pair):
    part, tokens = load_bert(pair[1]), texts()
    padded = np.where(MASK, tokens, part.section["pad"])
    got = ours(part, padded)
    np.testing.assert_array_equal(got, ours(part, padded, MASK))
    np.testing.assert_allclose(got[MASK], ours(part, tokens, MASK)[MASK], rtol=1e-5, atol=1e-6)


def test_half_precision_and_recomputation_change_little(pair):
    part, tokens = load_bert(pair[1]), texts()
    whole = torch.tensor(ours(part, tokens, MASK))
    for change, most in ((dict(remat=True), 1e-6), (dict(dtype="bfloat16"), 3e-2)):
        got = ours(part._replace(section={**part.section, **change}), tokens, MASK)
        assert far(got, whole, MASK) < most


def test_a_folder_goes_both_ways(pair, tmp_path):
    model, folder = pair
    part = load_bert(folder)
    save_bert(tmp_path / "a", part)
    again, report = transformers.BertModel.from_pretrained(tmp_path / "a", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    assert again.config.hidden_act == model.config.hidden_act
    assert {k: getattr(again.config, k) for k in SIZES} == SIZES
    same_part(load_bert(tmp_path / "a"), part)


def test_a_model_with_a_head_or_without_a_pooler_is_read(tmp_path):
    torch.manual_seed(1)
    model = shaken(transformers.BertForMaskedLM(transformers.BertConfig(**SIZES)))
    model.save_pretrained(tmp_path)
    part = load_bert(tmp_path)
    expected = theirs(model.bert, texts(), MASK).last_hidden_state
    assert far(ours(part, texts(), MASK), expected, MASK) < 1e-5
    assert "pool" not in part.variables["params"]
    save_bert(tmp_path / "a", part)
    same_part(load_bert(tmp_path / "a"), part)
    # As the first released files name them.
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    held = {"bert.embeddings.position_ids": np.arange(L + 2)[None]}
    for key, value in read_tensors(tmp_path / WEIGHTS).items():
        for new, before in old.items():
            key = key.replace(new, before)
        held[key] = value
    write_tensors(tmp_path / WEIGHTS, held)
    same_part(load_bert(tmp_path), part)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(model_type="roberta"), "is of a 'roberta' model, not of a 'bert'"),
        (dict(hidden_act="silu"), "hidden_act='silu' must be one of"),
        (dict(position_embedding_type="relative_key"), "='relative_key' is not supported"),
        (dict(is_decoder=True), "is_decoder=True is not supported"),
        (dict(num_hidden_layers=3), "num_hidden_layers=3, but the weights beside it have 2"),
        (dict(num_attention_heads=3), "do not divide into 3 attention heads"),
        (dict(hidden_size=17), "hidden_size=17, but the weights beside it have 16"),
        (dict(intermediate_size=5), "intermediate_size=5, but the weights beside it have 24"),
        (dict(vocab_size=41), "vocab_size=41, but the weights beside it have 40"),
        (dict(max_position_embeddings=9), "max_position_embeddings=9, but"),
        (dict(type_vocab_size=2), "type_vocab_size=2, but the weights beside it have 3"),
        (dict(layer_norm_eps=0), "layer_norm_eps=0 must be a number"),
    ],
)
def test_another_network_is_one_line(pair, tmp_path, change, said):
    with pytest.raises(ValueError) as error:
        load_bert(altered(pair[1], tmp_path / "a", change))
    assert said in str(error.value) and "\n" not in str(error.value)
    assert str(tmp_path / "a") in str(error.value)


def test_what_theirs_has_no_place_for_is_refused(pair, tmp_path):
    part = load_bert(pair[1])
    for change, said in (
        (dict(type="text"), "this network is not one"),
        (dict(width=24), "but the section's network has"),
    ):
        with pytest.raises(ValueError, match=said):
            save_bert(tmp_path, part._replace(section={**part.section, **change}))


def test_texts_that_are_too_long_are_refused():
    network = build_model("bert", vocab=VOCAB, width=8, depth=1, heads=2, context=L - 1)
    with pytest.raises(ValueError, match=f"BERT of {L - 1} positions got texts of {L} tokens"):
        jax.eval_shape(network.init, jax.random.key(0), texts())
