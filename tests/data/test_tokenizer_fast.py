"""Tokenizers of a tokenizer.json: their rows, their files, what they refuse."""

import json
from dataclasses import replace

import numpy as np
import pytest
from encoder_folders import bert_words, t5_words

from diffjax.data.tokenizer import RefusedText
from diffjax.data.tokenizer_fast import load_fast_tokenizer
from diffjax.runs.tokenizer import keep_tokenizer, read_tokenizer

TEXTS = ["a red circle", "the big blue square above a star", "zebra, Ünd"]
MADE = {"t5": t5_words, "bert": bert_words}


@pytest.fixture(params=MADE)
def words(request, tmp_path):
    """(the library's tokenizer, ours of its file)."""
    theirs = MADE[request.param]()
    theirs.save(str(tmp_path / "tokenizer.json"))
    return theirs, load_fast_tokenizer(tmp_path, context=16, pad=0)


def test_a_row_is_the_ids_and_then_padding(words):
    theirs, ours = words
    rows = ours.encode(TEXTS)
    assert rows.shape == (3, 16) and rows.dtype == np.int32
    for row, text in zip(rows, TEXTS, strict=True):
        ids = theirs.encode(text).ids
        assert len(ids) > 4 - 1 and row.tolist() == ids + [0] * (16 - len(ids))
        assert ids[-1] == ours.eot
    blank = theirs.encode("").ids
    assert ours.null_ids.tolist() == blank + [0] * (16 - len(blank))
    assert ours.vocab_size == theirs.get_vocab_size() > rows.max()


def test_a_row_is_read_back(words):
    _, ours = words
    texts = TEXTS[:2]
    assert ours.decode(ours.encode(texts)) == texts
    assert ours.decode(ours.null_ids) == ""
    with pytest.raises(ValueError, match="lie outside 0"):
        ours.decode([ours.vocab_size])


def test_texts_that_do_not_fit_are_refused_or_cut(words):
    theirs, ours = words
    long = "a red circle " * 8
    with pytest.raises(RefusedText, match=r"has .* tokens, the context 16") as error:
        ours.encode(["a star", long])
    assert error.value.index == 1
    cut = replace(ours, overlong="truncate").encode([long])[0]
    assert cut[-1] == ours.eot and ours.pad not in cut
    assert cut[:-1].tolist() == theirs.encode(long).ids[: 16 - 1]
    for blank in ("", " \t"):
        with pytest.raises(RefusedText, match="is empty"):
            ours.encode([blank])
        assert replace(ours, empty="allow").encode([blank]).tolist()[0][-1] == ours.pad
    for text, said in ((3, "is no string but int"), ("\ud800", "half of a surrogate pair")):
        with pytest.raises(RefusedText, match=said):
            ours.encode(["a star", text])
    with pytest.raises(ValueError, match="not one text"):
        ours.encode("a star")


def test_a_run_keeps_it(words, tmp_path):
    _, ours = words
    ours = replace(ours, overlong="truncate")
    keep_tokenizer(ours, tmp_path / "run")
    back = read_tokenizer(tmp_path / "run", ours.fingerprint)
    assert back == ours and hash(back) == hash(ours)
    np.testing.assert_array_equal(back.encode(TEXTS), ours.encode(TEXTS))
    assert replace(ours, context=15) != ours != replace(ours, empty="allow")
    with pytest.raises(ValueError, match="another tokenizer"):
        read_tokenizer(tmp_path / "run", "0" * 16)


def test_two_tokenizers_differ(tmp_path):
    found = []
    for kind, make in MADE.items():
        make().save(str(tmp_path / f"{kind}.json"))
        found.append(load_fast_tokenizer(tmp_path / f"{kind}.json", 16, 0))
    assert found[0] != found[1] and found[0].spelling != found[1].spelling


def test_a_folder_says_length_and_padding(words, tmp_path):
    theirs, ours = words
    with pytest.raises(ValueError, match="does not say the tokenizer's context: give it"):
        load_fast_tokenizer(tmp_path)
    settings = {"model_max_length": 20, "pad_token": {"content": theirs.id_to_token(0)}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    found = load_fast_tokenizer(tmp_path)
    assert found == replace(ours, context=20) and found.pad == 0
    with pytest.raises(ValueError, match="texts are padded with 0, but the encoder expects 1"):
        load_fast_tokenizer(tmp_path, pad=1)
    settings["diffjax"] = {"style": "hf"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="is no choice of this tokenizer"):
        load_fast_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        (dict(context=1), "context=1 must be from [23], to have room for a word"),
        (dict(context=10**9), "context=1000000000 must be from"),
        (dict(pad=10**6), "pad=1000000 lies outside 0"),
        (dict(overlong="cut"), "tokenizer overlong"),
        (dict(empty="yes"), "tokenizer empty"),
    ],
)
def test_choices_that_make_no_rows_are_refused(words, choices, said):
    with pytest.raises(ValueError, match=said):
        replace(words[1], **choices)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "holds neither tokenizer.json nor T5's spiece.model"),
        ("{", "tokenizer.json"),
        ("{}", "no tokenizer of Hugging Face's"),
        ('{"model": {"type": "Unigram"}}', "no tokenizer of Hugging Face's"),
    ],
)
def test_what_is_no_tokenizer_is_one_line(tmp_path, content, said):
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match=said) as error:
        load_fast_tokenizer(tmp_path, 16, 0)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)
