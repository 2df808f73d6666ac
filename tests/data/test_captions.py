"""Captions to tokens: a row is a function of its example and visit; batches are arrays alone."""

import json

import numpy as np
import pytest

from diffjax.data.arrays import ArraySource
from diffjax.data.draws import Draws
from diffjax.data.evaluation import as_arrays
from diffjax.data.loader import Loader
from diffjax.data.tokenizer_training import train_tokenizer
from diffjax.data.transforms import apply, describe, make_transforms

COLOURS = ("red", "green", "blue", "grey")
TEXTS = [f"a {colour} cube {i}" for i in range(8) for colour in COLOURS]
TOKENIZER = train_tokenizer(TEXTS, 600, context=10)


def made(**options):
    return make_transforms([dict(type="tokenize", **options)], tokenizer=TOKENIZER)


@pytest.fixture
def source():
    """Eight examples with four captions each, number i in all captions of example i."""
    images = np.zeros((8, 2, 2, 1), np.uint8)
    captions = [TEXTS[4 * i : 4 * i + 4] for i in range(8)]
    return ArraySource(images, label=np.arange(8), caption=captions)


def test_batches_are_arrays(source):
    loader = Loader(source, made(), 4, seed=0)
    batch = loader.batch(0)
    assert set(batch) == {"image", "label", "tokens"}
    assert batch["tokens"].shape == (4, 10) and batch["tokens"].dtype == np.int32
    assert loader.batch_spec()["tokens"].shape == (4, 10)
    for tokens, label in zip(batch["tokens"], batch["label"], strict=True):
        assert TOKENIZER.decode(tokens) in TEXTS[4 * label : 4 * label + 4]


def test_every_visit_draws_a_caption_and_rows_draw_alone(source):
    loader = Loader(source, made(drop=0.25), 8, seed=3)
    batches = [loader.batch(step) for step in range(200)]
    texts = [t for b in batches for t in TOKENIZER.decode(b["tokens"])]
    shares = [np.mean([c in t for t in texts]) for c in COLOURS]
    # 1,600 draws of probability 0.75 / 4: five standard deviations are 0.049.
    np.testing.assert_allclose(shares, 0.1875, atol=0.05)
    assert abs(np.mean([t == "" for t in texts]) - 0.25) < 0.055
    again = Loader(source, made(drop=0.25), 8, seed=3)
    np.testing.assert_array_equal(again.batch(7, rows=[5, 2])["tokens"],
                                  batches[7]["tokens"][[5, 2]])  # fmt: skip
    assert not np.array_equal(Loader(source, made(), 8, seed=4).batch(7)["tokens"],
                              Loader(source, made(), 8, seed=3).batch(7)["tokens"])  # fmt: skip


def test_evaluation_reads_the_first_caption(source):
    tokens = as_arrays(source, made(pick="first"))["tokens"]
    assert TOKENIZER.decode(tokens) == TEXTS[::4]


def test_evaluation_may_read_the_last_caption():
    columns = {"image": np.zeros((2, 1, 1, 3), np.uint8), "caption": [["red", "blue"], "green"]}
    out = apply(made(pick="last"), columns, Draws.at(0, np.arange(2)))
    assert TOKENIZER.decode(out["tokens"]) == ["blue", "green"]


def test_dropping_leaves_the_choice_of_captions(source):
    all_kept, some = (Loader(source, made(drop=d), 8, seed=1).batch(2)["tokens"] for d in (0, 0.5))
    blank = (some == TOKENIZER.null_ids).all(1)
    assert 0 < blank.sum() < 8
    np.testing.assert_array_equal(some[~blank], all_kept[~blank])
    every = Loader(source, made(drop=1.0), 8, seed=1).batch(0)["tokens"]
    assert (every == TOKENIZER.null_ids).all()


def test_records_with_few_captions():
    columns = {"image": np.zeros((3, 1, 1, 1)), "caption": ["a red cube 1", ["a"], ["b", "c"]]}
    out = apply(made(), columns, Draws.at(0, np.arange(3)))
    assert TOKENIZER.decode(out["tokens"])[:2] == ["a red cube 1", "a"]
    assert "caption" in columns and "caption" not in out


@pytest.mark.heavy
def test_worker_processes_read_the_same(source):
    loader = Loader(source, made(drop=0.2), 4, seed=3)
    with loader.iterate(2, workers=1) as batches:
        np.testing.assert_array_equal(next(batches)["tokens"], loader.batch(2)["tokens"])


def test_description_names_the_tokenizer(source):
    transforms = made(drop=0.1)
    section = describe(transforms)[0]
    assert section == {
        "type": "tokenize", "tokenizer": TOKENIZER.fingerprint, "pick": "random", "drop": 0.1,
    }  # fmt: skip
    json.dumps(Loader(source, transforms, 4, seed=0).fingerprint())
    assert make_transforms([section], tokenizer=TOKENIZER) == transforms
    other = train_tokenizer(TEXTS, 600, context=11)
    with pytest.raises(ValueError, match=f"made for tokenizer {TOKENIZER.fingerprint}, but"):
        make_transforms([section], tokenizer=other)


@pytest.mark.parametrize(
    "columns, message",
    [
        ({}, "the data have no captions"),
        ({"caption": ["red", []]}, "an empty list of captions"),
        ({"caption": ["red", ""]}, "text 1 is empty"),
        ({"caption": ["red " * 9]}, "text 0 has 11 tokens, the context 10"),
    ],
)
def test_bad_captions_are_named(columns, message):
    with pytest.raises(ValueError, match=message):
        apply(made(drop=1.0), columns, Draws.at(0, np.arange(len(columns.get("caption", [])))))


def test_bad_sections_are_named():
    with pytest.raises(ValueError, match="'tokenize' needs the run's tokenizer"):
        make_transforms([dict(type="tokenize")])
    with pytest.raises(ValueError, match=r"drop=1.5 must be at most 1"):
        made(drop=1.5)
    with pytest.raises(ValueError, match="pick must be 'random' or 'first' or 'last'"):
        made(pick="middle")
    with pytest.raises(ValueError, match="did you mean 'drop'"):
        made(dropp=0.1)
