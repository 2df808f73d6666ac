"""The generated scenes: what they show is what their factors and captions say."""

import hashlib
import re
import time
from itertools import product

import numpy as np
import pytest
from scenes import to_columns

from diffjax.data import factors
from diffjax.data.builders import shapes
from diffjax.data.evaluation import as_arrays
from diffjax.data.factors import (
    BACKGROUNDS,
    COLOURS,
    FIELDS,
    PAIR_NAMES,
    RELATIONS,
    SHAPES,
    SIZES,
    TEMPLATES,
    Scene,
    Thing,
    caption,
    captions,
    held_out_pairs,
    scene_at,
    shown_pairs,
)
from diffjax.data.loader import Loader
from diffjax.data.outlines import INSIDE, REACH, coverage
from diffjax.data.scenes import EDGE, GAP
from diffjax.data.sources import make_source
from diffjax.data.transforms import make_transforms

SPLITS = tuple(shapes.SPLITS)


def objects(columns, geometry, j, side=64):
    """Coverage by object j of each scene that has one: `[K, side, side]`, and which they are."""
    rows = np.flatnonzero(columns["num_objects"] > j)
    shape = columns["shape"][rows, j]
    parts = geometry.centre[rows, j] * side, geometry.radius[rows, j] * side
    return rows, coverage(shape, *parts, geometry.angle[rows, j], side)


def centroids(covered):
    """`[K, 2]`, (x, y) in shares of the side."""
    at = (np.arange(covered.shape[1]) + 0.5) / covered.shape[1]
    mass = covered.sum((1, 2))
    return np.stack([covered.sum(1) @ at / mass, covered.sum(2) @ at / mass], 1)


def pairs(columns):
    """`[N, 2]`, -1 where there is no second object."""
    pair = columns["shape"] * len(COLOURS) + columns["colour"]
    return np.where(columns["shape"] < 0, -1, pair)


@pytest.mark.parametrize("split", SPLITS)
def test_a_scene_depends_on_seed_split_and_index_alone(split):
    whole = shapes.render(split, np.arange(40))
    some = shapes.render(split, np.array([31, 4]))
    for name, column in whole.items():
        expected = [column[31], column[4]]
        assert all(np.array_equal(a, b) for a, b in zip(some[name], expected, strict=True)), name
    for other in (
        shapes.sample("elsewhere", np.arange(40)),
        shapes.sample(split, np.arange(40), 1),
    ):
        assert not np.array_equal(other[0]["background"], whole["background"])


def test_the_scenes_do_not_change():
    columns = [shapes.sample(split, np.arange(500))[0] for split in SPLITS]
    data = b"".join(c[name].astype("<i4").tobytes() for c in columns for name in sorted(c))
    assert hashlib.sha256(data).hexdigest()[:16] == "a1c73f99308dd058"


@pytest.mark.parametrize("split", SPLITS)
def test_factors_are_balanced(split):
    n = shapes.SPLITS[split]
    columns, _ = shapes.sample(split, np.arange(n))
    first, second = pairs(columns).T
    counts = np.bincount(first)[np.unique(first)]
    assert counts.max() - counts.min() <= 1
    two = second >= 0
    for what, values, options in (
        ("num_objects", columns["num_objects"], 2),
        ("relation", columns["relation"][two], len(RELATIONS)),
        ("background", columns["background"], len(BACKGROUNDS)),
        ("size 0", columns["size"][:, 0], len(SIZES)),
        ("size 1", columns["size"][two, 1], len(SIZES)),
        ("second", second[two], 49 if split != "compositions" else 56),
    ):
        seen = np.unique(values, return_counts=True)[1]
        assert len(seen) == options, what
        even = len(values) / options
        assert np.abs(seen - even).max() < 5 * np.sqrt(even), what
    assert (first != second).all()
    for name in ("shape", "colour", "size"):
        assert ((columns[name][:, 1] < 0) == ~two).all()
    assert ((columns["relation"] < 0) == ~two).all()


def test_held_out_pairs_are_never_trained_on():
    held = held_out_pairs()
    assert len(held) == len(PAIR_NAMES) // 8
    for options, index in ((SHAPES, held // len(COLOURS)), (COLOURS, held % len(COLOURS))):
        assert np.bincount(index, minlength=len(options)).max() == 1
    assert sorted([*held, *shown_pairs()]) == list(range(len(PAIR_NAMES)))
    for split in ("train", "test"):
        columns, _ = shapes.sample(split, np.arange(shapes.SPLITS[split]))
        assert not np.isin(pairs(columns), held).any()
        assert len(np.unique(columns["shape"][:, 0])) == len(SHAPES)
        assert len(np.unique(columns["colour"][:, 0])) == len(COLOURS)
    columns, _ = shapes.sample("compositions", np.arange(shapes.SPLITS["compositions"]))
    assert np.isin(pairs(columns)[:, 0], held).all()


def test_shapes_are_centred_within_reach_and_of_one_size():
    line = np.linspace(-1.5, 1.5, 1001)
    x, y = np.meshgrid(line, line)
    for name, inside, reach in zip(SHAPES, INSIDE, REACH, strict=True):
        mask = inside(x, y)
        assert abs(x[mask].mean()) < 0.002 and abs(y[mask].mean()) < 0.002, name
        assert 0.97 * reach < np.hypot(x, y)[mask].max() < reach + 0.004, name
        assert 0.65 < mask.mean() * 9 / np.pi < 1.1, name


def test_geometry_is_true_to_the_factors():
    columns, geometry = shapes.sample("train", np.arange(2000))
    rows, second = objects(columns, geometry, 1)
    first = objects(columns, geometry, 0)[1][rows]
    assert not (first * second).any()
    step = centroids(second) - centroids(first)
    far, near = np.abs(step).max(1), np.abs(step).min(1)
    assert (far > 1.9 * near).all() and far.min() > 8 / 32
    x, y = step.T
    expected = np.where(np.abs(x) > np.abs(y), np.where(x > 0, 0, 1), np.where(y > 0, 2, 3))
    np.testing.assert_array_equal(expected, columns["relation"][rows])
    # Along the relation's axis there are lines between the two on which neither is.
    for a, b, r in zip(first, second, columns["relation"][rows], strict=True):
        lines = 0 if r < 2 else 1
        clear = ~(a + b).any(lines)
        gap = np.flatnonzero(clear & (np.cumsum(~clear) > 0) & (np.cumsum(~clear[::-1])[::-1] > 0))
        assert len(gap) >= int(64 * GAP) - 1
    reach = geometry.radius * REACH[columns["shape"]]
    shown = np.arange(2) < columns["num_objects"][:, None]
    inside = np.minimum(geometry.centre, 1 - geometry.centre).min(2) - reach
    assert inside[shown].min() > EDGE - 1e-9


def test_sizes_do_not_meet():
    columns, geometry = shapes.sample("train", np.arange(2000))
    _, covered = objects(columns, geometry, 0)
    area = covered.sum((1, 2))
    for shape in range(len(SHAPES)):
        small, large = (
            area[(columns["shape"][:, 0] == shape) & (columns["size"][:, 0] == s)] for s in range(2)
        )
        assert large.min() > 1.7 * small.max()


def test_pictures_hold_their_colours_and_sizes_are_the_same_picture():
    few = shapes.render("test", np.arange(200))
    many = shapes.render("test", np.arange(200), 64)["image"]
    pooled = many.reshape(200, 32, 2, 32, 2, 3).mean((2, 4))
    assert np.abs(pooled - few["image"]).mean() < 0.3
    for i, image in enumerate(few["image"]):
        assert (image[0, 0] == factors.BACKGROUND_RGB[few["background"][i]]).all()
        for colour in few["colour"][i, : few["num_objects"][i]]:
            assert (image == factors.COLOUR_RGB[colour]).all(-1).sum() >= 4


THING = rf"an? (?:({'|'.join(SIZES)}) )?({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"
GRAMMAR = re.compile(
    rf"(?:a photo of )?{THING}(?: ({'|'.join(RELATIONS)}) {THING})?"
    rf"(?: on an? ({'|'.join(BACKGROUNDS)}) background)?"
)


def parsed(text):
    """The scene a caption tells, -1 where it does not say."""
    match = GRAMMAR.fullmatch(text)
    assert match, text
    size, colour, shape, relation, size2, colour2, shape2, ground = match.groups()

    def index(options, name):
        return options.index(name) if name else -1

    things = [Thing(SHAPES.index(shape), COLOURS.index(colour), index(SIZES, size))]
    if relation:
        things.append(Thing(SHAPES.index(shape2), COLOURS.index(colour2), index(SIZES, size2)))
    return Scene(tuple(things), index(RELATIONS, relation), index(BACKGROUNDS, ground))


@pytest.mark.parametrize("split", SPLITS)
def test_captions_are_true(split):
    columns = shapes.render(split, np.arange(100))
    for i, texts in enumerate(columns["caption"]):
        scene = scene_at(columns, i)
        assert len(texts) == len(set(texts)) == len(TEMPLATES) * len(scene.things)
        for text in texts:
            said = parsed(text)
            sizes = said.things[0].size >= 0
            true = Scene(
                tuple(Thing(t.shape, t.colour, t.size if sizes else -1) for t in scene.things),
                scene.relation,
                scene.background if said.background >= 0 else -1,
            )
            assert said.canonical() == true.canonical(), text
        assert scene in map(parsed, texts)  # the full caption says it all
        assert PAIR_NAMES[columns["label"][i]] in texts[0]


def test_captions_read_well():
    scene = Scene((Thing(0, 4, 0), Thing(3, 1, 1)), 0, 0)
    assert caption(scene) == (
        "a photo of a small orange circle left of a large green star on a white background"
    )
    assert caption(scene.swapped(), "short") == "a green star right of an orange circle"
    assert captions(Scene((Thing(1, 0, 1),), -1, 2)) == [
        "a red square",
        "a photo of a red square",
        "a large red square",
        "a red square on a black background",
        "a photo of a large red square on a black background",
    ]
    assert caption(Scene((Thing(colour=4),)), "photo") == "a photo of an orange object"
    assert caption(Scene((Thing(shape=2, size=1),), background=1)) == (
        "a photo of a large triangle on a grey background"
    )
    with pytest.raises(ValueError, match=r"unknown caption template 'shrt'; did you mean 'short'"):
        caption(scene, "shrt")


def test_swapping_tells_the_same_scene():
    for relation, a, b in product(range(4), (0, 3), (2, 5)):
        scene = Scene((Thing(a, b, 0), Thing(b, a, 1)), relation, 0)
        assert scene.swapped() != scene == scene.swapped().swapped()
        assert scene.swapped().canonical() == scene.canonical()
        assert RELATIONS[scene.canonical().relation] in ("left of", "above")
    alone = Scene((Thing(1, 1, 1),), -1, 1)
    assert alone.swapped() == alone.canonical() == alone


def test_columns_and_scenes_are_each_other():
    columns, _ = shapes.sample("train", np.arange(50))
    again = to_columns(scene_at(columns, i) for i in range(50))
    for name in FIELDS:
        np.testing.assert_array_equal(again[name], columns[name])
        assert again[name].dtype == columns[name].dtype


@pytest.fixture
def few(tmp_path, monkeypatch):
    """A data directory in which a small `shapes` will be prepared."""
    monkeypatch.setattr(shapes, "SPLITS", {"train": 30, "test": 10, "compositions": 8})
    return tmp_path


@pytest.mark.parametrize("size", [32, 64])
def test_round_trip_through_array_record(few, size):
    for split, n in shapes.SPLITS.items():
        source = make_source("shapes", split=split, data_dir=few, size=size)
        assert len(source) == n and source.info.class_names == PAIR_NAMES
        assert source.info.image_shape == (size, size, 3)
        want = shapes.render(split, np.arange(n), size)
        for i, record in enumerate(source):
            assert sorted(record) == sorted(want)
            assert record["caption"] == want["caption"][i]
            for name in ("image", "label", *FIELDS):
                np.testing.assert_array_equal(record[name], want[name][i])
            assert scene_at(record) == scene_at(want, i)


def test_sizes_and_splits_have_fingerprints_of_their_own(few):
    sources = [
        make_source("shapes", split=split, data_dir=few, size=size)
        for split, size in product(SPLITS, (32, 64))
    ]
    assert len({s.info.fingerprint for s in sources}) == 6
    assert {s.info.name for s in sources} == {"shapes", "shapes64"}
    with pytest.raises(ValueError, match=r"shapes: size must be 32 or 64, not 48"):
        make_source("shapes", data_dir=few, size=48)


@pytest.mark.parametrize("cache", [True, False])
def test_factors_arrive_in_batches(few, cache):
    source = make_source("shapes", data_dir=few)
    loader = Loader(source, make_transforms([dict(type="to_float")]), 30, 0, cache=cache)
    batch = loader.batch(0)
    whole = as_arrays(source, [])
    order = [int(np.flatnonzero((batch["image"] == x).all((1, 2, 3)))[0]) for x in to_float(whole)]
    assert sorted(order) == list(range(30))
    for name, shape in FIELDS.items():
        assert batch[name].shape == (30, *shape) and batch[name].dtype == np.int32
        np.testing.assert_array_equal(batch[name][order], whole[name])


def to_float(columns):
    return columns["image"].astype(np.float32) / np.float32(127.5) - np.float32(1)


@pytest.mark.heavy
def test_the_whole_set_is_made_in_a_minute(tmp_path):
    start = time.process_time()
    source = make_source("shapes", split="compositions", data_dir=tmp_path)
    assert time.process_time() - start < 60
    columns = as_arrays(source, [])
    want = shapes.render("compositions", np.arange(1500))
    np.testing.assert_array_equal(columns["image"], want["image"])
