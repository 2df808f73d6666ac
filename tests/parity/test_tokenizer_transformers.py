"""Our tokenizer in transformers' style against transformers' own, on a vocabulary trained here."""

from __future__ import annotations

import numpy as np
import pytest

from diffjax.data.tokenizer_files import load_tokenizer
from diffjax.data.tokenizer_training import train_tokenizer
from tests.data.captions import strange

transformers = pytest.importorskip("transformers", reason="parity needs '.[parity]'")

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer")
    made = train_tokenizer(strange(400, seed=1), 1200, style="hf", empty="allow")
    made.save(path)
    assert len(made.merges) > 300
    return path


def theirs(folder, texts, context):
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    rows = tokenizer(texts, padding="max_length", truncation=True, max_length=context)
    return np.array(rows["input_ids"], np.int32)


@pytest.mark.parametrize("context", [77, 20])
def test_ids_equal_theirs(folder, context):
    ends = ["a<|endoftext|> b", "<|EndOfText|>", "†<|startoftext|>"]
    texts = [*strange(1000), *ends, "", " \n", "a", "!" * 300]
    ours = load_tokenizer(folder, context=context, overlong="truncate").encode(texts)
    assert len(np.unique(ours)) > 200 and (ours[:, -1] == ours.max()).all()
    np.testing.assert_array_equal(ours, theirs(folder, texts, context))


def test_their_copy_of_it_is_read_as_ours(folder, tmp_path):
    """What transformers saves again is a tokenizer.json, with merges as pairs."""
    transformers.CLIPTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").exists()
    again = load_tokenizer(tmp_path, overlong="truncate", empty="allow")
    ours = load_tokenizer(folder, overlong="truncate", empty="allow")
    texts = strange(200, seed=4)
    np.testing.assert_array_equal(again.encode(texts), ours.encode(texts))


def test_a_pad_token_that_texts_hold(tmp_path):
    """Stable Diffusion 2 pads with "!", which transformers then takes for padding in a text too."""
    texts = ["wow! a cube!!", "!no", *strange(200, seed=6)]
    made = train_tokenizer(texts, 900, 30, style="hf", pad=0, overlong="truncate", empty="allow")
    made.save(tmp_path)
    np.testing.assert_array_equal(made.encode(texts), theirs(tmp_path, texts, 30))


def test_clean_text_has_one_row_in_both_worlds(tmp_path):
    texts = [f"a {c} cube above the {s} ball" for c in ("red", "blue") for s in ("small", "big")]
    made = train_tokenizer(texts, 560, 12, style="openai")
    made.save(tmp_path)
    ours, other = made.encode(texts), theirs(tmp_path, texts, 12)
    np.testing.assert_array_equal(np.where(ours == made.pad, made.eot, ours), other)
