"""Several tokenizers as one: rows side by side, kept and read again."""

import json
from dataclasses import replace

import numpy as np
import pytest
from encoder_folders import bert_words, t5_words

from diffjax.data.captions import Tokenize
from diffjax.data.draws import Draws
from diffjax.data.tokenizer import RefusedText
from diffjax.data.tokenizer_fast import FastTokenizer
from diffjax.data.tokenizer_joint import JointTokenizer, join, load_saved
from diffjax.data.tokenizer_training import train_tokenizer

TEXTS = ["a red circle", "the big blue square above a star"]


@pytest.fixture(scope="module")
def parts():
    """CLIP's, T5's and BERT's."""
    return (
        train_tokenizer(TEXTS, 540, context=40),
        FastTokenizer(t5_words().to_str(), 20, 0),
        FastTokenizer(bert_words().to_str(), 30, 0),
    )


def test_a_row_holds_the_ids_of_each(parts):
    joint = join(parts)
    assert isinstance(joint, JointTokenizer)
    assert (joint.context, joint.starts) == (90, (0, 40, 60))
    rows = joint.encode(TEXTS)
    assert rows.dtype == np.int32 and rows.max() < joint.vocab_size == parts[0].vocab_size
    for part, start in zip(parts, joint.starts, strict=True):
        own = slice(start, start + part.context)
        np.testing.assert_array_equal(rows[:, own], part.encode(TEXTS))
        np.testing.assert_array_equal(joint.null_ids[own], part.null_ids)
    assert joint.decode(rows) == TEXTS and joint.decode(rows[0]) == TEXTS[0]
    assert joint.eot == parts[0].eot


def test_each_different_one_is_there_once(parts):
    a, b, c = parts
    assert join([]) is None and join([a, a]) is a
    assert join([a, b, a, c, b]) == join([join([a, b]), c]) == join(parts)
    assert join([a, b]) != join([b, a]) and join([a, b]).spelling != join([b, a]).spelling
    assert len({join([a, b]), join([a, replace(b)])}) == 1
    with pytest.raises(ValueError, match="of at least two, not of 1"):
        JointTokenizer((a,))


def test_what_one_refuses_is_refused(parts):
    joint = join(parts)
    for texts, said in ((["a", ""], "is empty"), (["a", "a red " * 12], "has .* tokens")):
        with pytest.raises(RefusedText, match=said) as error:
            joint.encode(texts)
        assert error.value.index == 1
    assert (joint.empty, joint.overlong) == ("error", "error")
    every = join([replace(part, overlong="truncate") for part in parts]).allowing_empty()
    assert (every.empty, every.overlong) == ("allow", "truncate")
    np.testing.assert_array_equal(every.encode([""])[0], joint.null_ids)
    assert every.encode(["a red " * 40]).shape == (1, 90)


def test_it_is_kept_and_read_again(parts, tmp_path):
    joint = join(parts)
    joint.save(tmp_path)
    back = load_saved(tmp_path)
    assert back == joint and back.parts == parts
    np.testing.assert_array_equal(back.encode(TEXTS), joint.encode(TEXTS))
    for part, name in zip(parts, "012", strict=True):
        assert load_saved(tmp_path / name) == part
    for count in (1, 10**6, "two"):
        (tmp_path / "parts.json").write_text(json.dumps({"parts": count}))
        with pytest.raises(ValueError, match="is no number of tokenizers"):
            load_saved(tmp_path)


def test_captions_are_dropped_whole(parts):
    joint = join(parts[:2])
    columns = {"caption": np.array(TEXTS * 20, object)}
    draws = Draws.at(0, np.arange(40))
    rows = Tokenize(joint, pick="first", drop=0.5)(columns, draws)["tokens"]
    blank = (rows == joint.null_ids).all(axis=1)
    assert 5 < blank.sum() < 35
    np.testing.assert_array_equal(rows[~blank], joint.encode(TEXTS * 20)[~blank])
