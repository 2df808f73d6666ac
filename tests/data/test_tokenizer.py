"""CLIP's tokenizer: against the algorithm's definition, its laws, its files, its errors."""

import gzip
import json
import pickle
import random
from dataclasses import replace

import numpy as np
import pytest
from captions import strange
from reference_bpe import encode, frequencies

from diffjax.data.tokenizer import EOT, SOT, alphabet
from diffjax.data.tokenizer_files import load_tokenizer
from diffjax.data.tokenizer_training import train_tokenizer

SIMPLE = [
    f"{count} {size} {colour} {shape}{many} above the {other} cube"
    for count, many in (("a", ""), ("two", "s"))
    for size in ("small", "large")
    for colour in ("red", "green", "blue")
    for other in ("red", "green", "blue")
    for shape in ("circle", "square", "triangle")
]


@pytest.fixture(scope="module")
def trained():
    return train_tokenizer(strange(400, seed=1) + SIMPLE, 1200, overlong="truncate", empty="allow")


@pytest.fixture(scope="module")
def simple():
    return train_tokenizer(SIMPLE, 700, context=16)


def test_ids_are_those_of_the_algorithm(trained):
    texts = [*strange(1000), f"a {SOT} in the middle<|EndOfText|> of it"]
    rows = trained.encode(texts)
    for text, row in zip(texts, rows, strict=True):
        ids = encode(text, trained.vocab, trained.merges)
        wanted = [trained.sot, *ids[: trained.context - 2], trained.eot]
        assert row.tolist() == wanted + [0] * (trained.context - len(wanted)), text


def test_training_merges_the_most_frequent_pair():
    texts = SIMPLE + ["the quick brown fox, isn't it", "naïve café"] * 3
    merges = train_tokenizer(texts, 560).merges
    assert len(merges) == 560 - 514
    assert all(count == most for count, most in frequencies(texts, merges))


def test_training_does_not_depend_on_the_order_of_captions():
    texts = strange(200, seed=2) + SIMPLE
    shuffled = random.Random(0).sample(texts, len(texts))
    one, two = train_tokenizer(texts, 700), train_tokenizer(iter(shuffled), 700)
    assert one == two and hash(one) == hash(two)
    assert one != train_tokenizer(texts, 701)
    assert list(one.vocab)[:512] == alphabet() and (one.sot, one.eot) == (698, 699)


def test_a_small_corpus_ends_training_early():
    tokenizer = train_tokenizer(["ab ab", "cd"], 2000)
    assert tokenizer.merges == (("a", "b</w>"),) and tokenizer.vocab_size == 515
    assert tokenizer.encode(["AB"])[0, :4].tolist() == [513, 512, 514, 0]


@pytest.mark.parametrize("style", ["openai", "hf"])
def test_words_come_back(style):
    tokenizer = train_tokenizer(SIMPLE, 600, context=40, style=style)
    others = ["quite another sentence about 3 owls", "ünïcödé 猫 🙂 мир"]
    texts = SIMPLE + [" ".join(t.replace("3", "3 ").split()) for t in others]
    rows = tokenizer.encode(texts)
    assert tokenizer.decode(rows) == texts
    assert tokenizer.decode(rows[0]) == texts[0]
    assert tokenizer.pad == (0 if style == "openai" else tokenizer.eot)


def test_decoded_text_has_the_same_ids(trained):
    rows = trained.encode(strange(300, seed=3))
    whole = rows[(rows == trained.eot).argmax(1) < trained.context - 1]  # the others are cut
    np.testing.assert_array_equal(trained.encode(trained.decode(whole)), whole)


def test_cleaning_is_openais(simple):
    raw = ["RED &amp;amp;\n\t  Blue", "schÃ¶n", "ﬁne ＦＵＬＬ", "it’s"]
    clean = ["red & blue", "schön", "fine full", "it 's"]
    assert simple.decode(simple.encode(raw)) == clean


def test_a_row_that_is_too_long(simple):
    words = ["red"] * 14
    assert simple.encode([" ".join(words)])[0, -1] == simple.eot
    with pytest.raises(ValueError, match=r"text 1 has 17 tokens, the context 16;.*'red red"):
        simple.encode(["red", " ".join([*words, "blue"])])
    cut = replace(simple, overlong="truncate")
    row = cut.encode([" ".join([*words, "blue", "green"])])[0]
    np.testing.assert_array_equal(row, simple.encode([" ".join(words)])[0])


@pytest.mark.parametrize("text", ["", " \n\u3000", "&nbsp;"])
def test_an_empty_text(simple, text):
    with pytest.raises(ValueError, match=r"text 1 is empty: .*; give it words, or allow empty"):
        simple.encode(["red", text])
    row = replace(simple, empty="allow").encode([text])[0]
    np.testing.assert_array_equal(row, simple.null_ids)
    assert row.tolist() == [simple.sot, simple.eot] + [0] * 14 and simple.decode(row) == ""


def test_no_text_at_all(simple):
    assert simple.encode([]).shape == (0, 16)


@pytest.mark.parametrize(
    "texts, message",
    [
        ("red", r"takes a sequence of texts, not one text: \['red'\]"),
        (["red", None], "text 1 is no string but NoneType"),
        (["\ud83d"], "text 0 holds half of a surrogate pair"),
    ],
)
def test_what_is_no_text_is_named(simple, texts, message):
    with pytest.raises(ValueError, match=message):
        simple.encode(texts)


def test_ids_outside_the_vocabulary(simple):
    with pytest.raises(ValueError, match=f"lie outside 0 .. {simple.vocab_size - 1}"):
        simple.decode([0, simple.vocab_size])


@pytest.mark.parametrize("style, pad", [("openai", 0), ("hf", None), ("hf", 0)])
def test_a_saved_tokenizer_is_the_same(tmp_path, style, pad):
    texts = strange(100, seed=5)
    made = train_tokenizer(texts, 800, 20, style, pad=pad, overlong="truncate", empty="allow")
    made.save(tmp_path)
    read = load_tokenizer(tmp_path)
    assert read == made and pickle.loads(pickle.dumps(read)) == made
    np.testing.assert_array_equal(read.encode(texts), made.encode(texts))
    other = load_tokenizer(tmp_path, context=33, overlong="error")
    assert (other.context, other.pad, other.overlong) == (33, made.pad, "error")
    turned = load_tokenizer(tmp_path, style="hf" if style == "openai" else "openai")
    assert turned.pad == (turned.eot if style == "openai" else 0)  # the pad of its own world


def openai_file(path, merges):
    """Merges as OpenAI's file has them: a header, and more lines than CLIP uses."""
    lines = ["header", *(" ".join(m) for m in merges)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


def test_openais_file(tmp_path):
    merges = train_tokenizer(SIMPLE, 600).merges
    read = load_tokenizer(openai_file(tmp_path / "bpe.txt.gz", merges))
    assert (read.style, read.context, read.pad) == ("openai", 77, 0)
    assert list(read.vocab) == [*alphabet(), *("".join(m) for m in merges), SOT, EOT]
    assert read.merges == merges


def test_openais_file_is_read_as_far_as_clip_does(tmp_path):
    # 262,144 merges follow the header there; CLIP's 49,408 ids are 48,894 of them, and 514.
    letters = alphabet()
    merges = [(a, b) for a in letters[:256] for b in letters[256:]]
    read = load_tokenizer(openai_file(tmp_path / "bpe_simple_vocab_16e6.txt.gz", merges))
    assert read.merges == tuple(merges[:48894])
    assert (read.vocab_size, read.sot, read.eot) == (49408, 49406, 49407)


@pytest.mark.parametrize("pairs", [True, False])
def test_a_tokenizer_json(tmp_path, simple, pairs):
    merges = [list(m) if pairs else " ".join(m) for m in simple.merges]
    model = {"type": "BPE", "vocab": simple.vocab, "merges": merges, "end_of_word_suffix": "</w>"}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model}))
    config = {"pad_token": {"content": "!"}, "model_max_length": 1e30}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        read = load_tokenizer(path)
        assert (read.vocab, read.merges) == (simple.vocab, simple.merges)
        assert (read.style, read.context, read.pad) == ("hf", 77, 0)


def test_bad_files_are_named(tmp_path):
    cases = {
        "none.txt.gz": (None, "no such tokenizer"),
        "bad.txt.gz": (b"no gzip", "no readable list of merges"),
        "three.txt": (b"header\na b\na b c\n", "'a b c' is no merge of two tokens"),
        "bad.json": (b"{", "no JSON"),
        "bert.json": (b'{"model": {"type": "WordPiece"}}', "no CLIP tokenizer"),
    }
    for name, (content, message) in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}: .*{message}"):
            load_tokenizer(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no tokenizer there \(vocab.json and merges.txt"):
        load_tokenizer(tmp_path / "empty")


@pytest.mark.parametrize(
    "choices, message",
    [
        (dict(vocab_size=513), "vocab_size=513 is too small: .* at least 514"),
        (dict(context=2), "context=2 has no room for a word"),
        (dict(pad=5000), "pad=5000 lies outside 0 .. 5"),
        (dict(style="opnai"), "unknown tokenizer style 'opnai'; did you mean 'openai'"),
        (dict(overlong="cut"), "unknown tokenizer overlong 'cut'"),
        (dict(empty="alow"), "did you mean 'allow'"),
    ],
)
def test_bad_choices_are_named(choices, message):
    with pytest.raises(ValueError, match=message):
        train_tokenizer(SIMPLE, **{"vocab_size": 560, **choices})
