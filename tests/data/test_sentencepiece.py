"""T5's spiece.model, read without SentencePiece: the ids it gives, and what is none."""

import json
import struct

import pytest

from diffjax.data.tokenizer_fast import load_fast_tokenizer

NORMAL, UNKNOWN, CONTROL = 1, 2, 3
PIECES = [
    ("<pad>", 0.0, CONTROL), ("</s>", 0.0, CONTROL), ("<unk>", 0.0, UNKNOWN), ("▁", -3.0, NORMAL),
    ("▁a", -2.0, NORMAL), ("▁red", -2.0, NORMAL), ("▁circle", -2.0, NORMAL), ("s", -4.0, NORMAL),
]  # fmt: skip


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value) -> bytes:
    """A field of Protocol Buffers."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


UNIGRAM = field(3, 1)


def model(pieces=PIECES, training=UNIGRAM) -> bytes:
    held = [field(1, name) + field(2, score) + field(3, kind) for name, score, kind in pieces]
    return b"".join(field(1, one) for one in held) + field(2, training) + field(3, field(1, "none"))


def write(folder, content: bytes, **config):
    (folder / "spiece.model").write_bytes(content)
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<pad>", **config}))
    return folder


def test_its_ids_are_places_of_pieces_and_sentinels_follow(tmp_path):
    found = load_fast_tokenizer(write(tmp_path, model()), context=9)
    rows = found.encode(["a red circle", "  red   circles zz", "red <extra_id_0>"])
    assert rows.tolist() == [
        [4, 5, 6, 1, 0, 0, 0, 0, 0],
        [5, 6, 7, 3, 2, 1, 0, 0, 0],
        [5, 107, 1, 0, 0, 0, 0, 0, 0],
    ]
    assert found.vocab_size == 108 and found.eot == 1 and found.pad == 0
    assert found.decode(rows[0]) == "a red circle"
    assert load_fast_tokenizer(write(tmp_path, model(), extra_ids=0), 9).vocab_size == 8


def test_a_tokenizer_json_beside_it_is_read_first(tmp_path):
    found = load_fast_tokenizer(write(tmp_path, model(), extra_ids=0), 9)
    (tmp_path / "tokenizer.json").write_text(found.content)
    (tmp_path / "spiece.model").write_bytes(b"")
    assert load_fast_tokenizer(tmp_path, 9) == found


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no Unigram model"),
        (b"\x80" * 20, "is no SentencePiece model"),
        (b"\xff\xff", "is no SentencePiece model"),
        (model()[:-3], "is no SentencePiece model"),
        (field(1, 7), "is no SentencePiece model"),
        (field(1, field(2, 1.0)), "is no SentencePiece model"),
        (field(1, field(1, b"\xff")), "is no SentencePiece model"),
        (b"\x0b" + model(), "is no SentencePiece model"),
        (model(training=field(3, 2)), "no Unigram model"),
        (model(PIECES[3:]), "lacks the piece '</s>'"),
        (model(PIECES[:2]), "or an unknown one"),
        (model(training=UNIGRAM + field(47, "<end>")), "lacks the piece '<end>'"),
        (model([*PIECES, ("▁bad", float("nan"), NORMAL)]), "is no SentencePiece model"),
        (model() + field(3, field(2, b"no map")), "is no SentencePiece model"),
    ],
)
def test_what_is_none_is_one_line(tmp_path, content, said):
    with pytest.raises(ValueError, match=said) as error:
        load_fast_tokenizer(write(tmp_path, content), 9)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


@pytest.mark.parametrize("extra", [-1, "many", 10**9])
def test_a_number_of_sentinels_that_none_has_is_refused(tmp_path, extra):
    with pytest.raises(ValueError, match=r"extra_ids=.* is no number"):
        load_fast_tokenizer(write(tmp_path, model(), extra_ids=extra), 9)
