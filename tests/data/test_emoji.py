"""The data set of emoji: what is held out, what shares a drawing, and the way through array_record.

A tiny font stands in for the real one; the last tests look at the real one, where it is found.
"""

from collections import Counter

import numpy as np
import pytest
from emoji_fonts import colour, drawing, make_font

from diffjax.data import emoji_font
from diffjax.data.builders import emoji as builder
from diffjax.data.builders.emoji import held_out_combinations, split_of
from diffjax.data.emoji_captions import captions
from diffjax.data.emoji_font import EmojiFont, find_font
from diffjax.data.emoji_words import (
    EMOJI_WORDS,
    GENDERS,
    JOBS,
    ROLES,
    SKIN_TONES,
    read_emoji,
    unicode_emoji,
)
from diffjax.data.evaluation import as_arrays
from diffjax.data.sources import factor_words, make_source

EMOJI = read_emoji(unicode_emoji())
DRAWN_ROLES = {ROLES.index(name) for name in ("firefighter", "running", "biking")}
FRANCE, ST_MARTIN = "🇫🇷", "🇲🇫"  # one drawing
SOME = [e for e in EMOJI if e.role in DRAWN_ROLES or e.sequence in (FRANCE, "🐧")] + [
    e for e in EMOJI if split_of(e) == "test"
][:5]


def combination(emoji):
    return emoji.gender, emoji.skin_tone, emoji.role


def combinations(columns):
    return set(zip(*(columns[name].tolist() for name in ("gender", "skin_tone", "role"))))  # noqa: B905


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """(font file, sequence -> number of its drawing)."""
    numbers = {emoji.sequence: i for i, emoji in enumerate(SOME)}
    numbers[ST_MARTIN] = numbers[FRANCE]
    path = tmp_path_factory.mktemp("font") / "NotoColorEmoji.ttf"
    return make_font(path, {s: drawing(i) for s, i in numbers.items()}), numbers


@pytest.fixture
def found(tiny, monkeypatch):
    """The tiny font is the one that is found."""
    monkeypatch.setattr(emoji_font, "PLACES", (str(tiny[0].parent),))
    return tiny[1]


def test_what_is_held_out_is_shown_in_other_combinations():
    held = held_out_combinations()
    shown = [e for e in EMOJI if e.role >= 0 and split_of(e) == "train" and e.skin_tone >= 0]
    assert not held & {combination(e) for e in shown}
    for place, words in ((0, GENDERS), (1, SKIN_TONES)):
        for role in {e.role for e in shown}:
            assert len({c[place] for c in held if c[2] == role}) in (0, 1, 2, len(words))
        assert {c[place] for c in held} == set(range(len(words)))
    for role in range(len(ROLES)):
        with_role = [e for e in shown if e.role == role]
        skins = {e.skin_tone for e in with_role}
        if ROLES[role] not in ("genie", "zombie"):
            assert skins == set(range(len(SKIN_TONES)))
            assert len({e.gender for e in with_role}) >= len(GENDERS) - (role >= len(JOBS))
    jobs = Counter(c[2] for c in held if c[2] < len(JOBS))
    assert set(jobs) == set(range(len(JOBS))) and set(jobs.values()) == {2}
    activities = {c[2]: {d[0] for d in held if d[2] == c[2]} for c in held if c[2] >= len(JOBS)}
    assert len(activities) == 13 and all(len(genders) == 1 for genders in activities.values())


def test_a_split_is_a_function_of_the_combination():
    by_combination = {}
    for emoji in EMOJI:
        if emoji.role >= 0:
            by_combination.setdefault(combination(emoji), set()).add(split_of(emoji))
    assert all(len(splits) == 1 for splits in by_combination.values())
    counts = Counter(map(split_of, EMOJI))
    toned = sum(e.skin_tone >= 0 for e in EMOJI)
    assert 130 <= counts["compositions"] <= 150
    assert 0.035 * toned <= counts["test"] <= 0.065 * toned
    names = {e.name for e in EMOJI if split_of(e) == "train"}
    assert {e.name for e in EMOJI if split_of(e) == "test"} <= names
    assert all(split_of(e) == "train" for e in EMOJI if e.skin_tone < 0)


def test_emoji_that_share_a_drawing_are_in_one_split():
    held = next(e for e in EMOJI if split_of(e) == "compositions")
    shown = next(e for e in EMOJI if e.role == held.role and split_of(e) == "train")
    tested = next(e for e in EMOJI if split_of(e) == "test")
    for group, split in (
        ([shown, held], "compositions"),
        ([tested, held], "compositions"),
        ([tested, shown], "train"),
        ([tested], "test"),
    ):
        assert builder.split_of_all(group) == builder.split_of_all(group[::-1]) == split
    fields = builder.factors([shown, held])
    assert fields["role"] == held.role
    for name in ("gender", "skin_tone"):
        same = getattr(shown, name) == getattr(held, name)
        assert fields[name] == (getattr(held, name) if same else -1)


@pytest.mark.parametrize("size", [32, 64])
def test_round_trip_through_array_record(found, tmp_path, size):
    wanted = {"train": [], "test": [], "compositions": []}
    for emoji in SOME:
        wanted[split_of(emoji)].append(emoji)
    for split, emoji in wanted.items():
        source = make_source("emoji", split=split, data_dir=tmp_path, size=size)
        assert len(source) == len(emoji) > 0
        assert source.info.image_shape == (size, size, 3)
        assert source.info.num_classes == len({e.concept for e in SOME})
        by_colour = {tuple(record["image"][size // 2, size // 2]): record for record in source}
        for one in emoji:
            record = by_colour[colour(found[one.sequence])]
            assert source.info.class_names[record["label"]] == one.concept
            assert record["image"][0, 0].tolist() == [255, 255, 255]
            for name in EMOJI_WORDS:
                assert record[name] == getattr(one, name)
            texts = captions(one)
            assert record["caption"][-len(texts) :] == texts
            if one.sequence == FRANCE:
                assert "flag of St. Martin" in record["caption"]
            else:
                assert len(record["caption"]) == len(texts)
        arrays = as_arrays(source, [])
        assert all(arrays[name].shape == (len(source),) for name in EMOJI_WORDS)


def test_sizes_and_splits_have_fingerprints_of_their_own(found, tmp_path):
    sources = [
        make_source("emoji", split=split, data_dir=tmp_path, size=size)
        for split in builder.SPLITS
        for size in builder.SIDES
    ]
    assert len({s.info.fingerprint for s in sources}) == 6
    assert {s.info.name for s in sources} == {"emoji", "emoji64"}
    assert factor_words("emoji64") == factor_words("emoji") == dict(EMOJI_WORDS)
    with pytest.raises(ValueError, match="emoji: size must be 32 or 64, not 48"):
        make_source("emoji", data_dir=tmp_path, size=48)


def test_a_label_may_be_a_factor(found, tmp_path):
    whole = make_source("emoji", data_dir=tmp_path)
    source = make_source("emoji", data_dir=tmp_path, label="gender")
    assert source.info.class_names == GENDERS and source.info.num_classes == len(GENDERS)
    assert 0 < len(source) < len(whole) and source.info.fingerprint != whole.info.fingerprint
    assert len(source) == sum(record["gender"] >= 0 for record in whole)
    for i, (where, caption) in enumerate(source.read_captions()):
        assert source[i]["caption"] == caption and f"{source[i]['label']}" and where
        assert source[i]["label"] == source[i]["gender"] >= 0
    assert len(source) == i + 1
    with pytest.raises(ValueError, match="unknown label of emoji 'gendre'; did you mean 'gender'"):
        make_source("emoji", data_dir=tmp_path, label="gendre")
    with pytest.raises(ValueError, match="emoji: no record of split 'compositions' has a 'hair'"):
        make_source("emoji", data_dir=tmp_path, split="compositions", label="hair")


def test_a_font_that_draws_too_little_is_refused(tmp_path):
    font = EmojiFont(make_font(tmp_path / "few.ttf", {"🐧": drawing(1)}))
    with pytest.raises(ValueError, match=r"few.ttf: draws 1 of \d+ emoji, and none of the split"):
        builder.render(font, EMOJI, 32)


def test_no_font_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(emoji_font, "PLACES", (str(tmp_path),))
    with pytest.raises(ValueError, match=r"no NotoColorEmoji.ttf in .*prepare_data") as caught:
        make_source("emoji", data_dir=tmp_path / "data")
    assert "\n" not in str(caught.value) and not list((tmp_path / "data").iterdir())


def test_prepare_data(processes, tiny, tmp_path):
    options = ("--source=emoji", f"--data_dir={tmp_path / 'data'}")
    done = processes.run(*options, f"--font={tiny[0]}", main="prepare_data")
    assert done.code == 0, done.stderr
    assert f"test: {sum(split_of(e) == 'test' for e in SOME)} images 32x32x3" in done.stdout
    assert "read it with dict(type='tfds', name='emoji', split=...)" in done.stdout
    other = make_font(
        tmp_path / "other.ttf", {e.sequence: drawing(500 + i) for i, e in enumerate(SOME)}
    )
    refused = processes.run(*options, f"--font={other}", main="prepare_data")
    assert refused.code == 2 and "holds other data than" in refused.error
    wrong = processes.run("--source=digits", f"--font={other}", main="prepare_data")
    assert wrong.code == 2 and "--font is read by --source=emoji" in wrong.error


@pytest.fixture(scope="module")
def real():
    """(concepts, splits) of the font that the system has."""
    try:
        path = find_font()
    except ValueError as error:
        pytest.skip(f"NOT TESTED: {error}")
    return builder.render(EmojiFont(path), EMOJI, 32)


def test_the_real_font_draws_what_unicode_names(real):
    concepts, splits = real
    counts = {split: len(columns["image"]) for split, columns in splits.items()}
    assert sum(counts.values()) >= 3_300 and len(concepts) >= 1_500
    assert counts["test"] >= 50 and counts["compositions"] >= 100
    images = np.concatenate([columns["image"] for columns in splits.values()])
    assert np.median(images[:, 0, 0], axis=0).tolist() == [255, 255, 255]
    assert len({image.tobytes() for image in images}) >= 0.99 * len(images)
    assert images.reshape(len(images), -1).std(axis=1).min() > 0


def test_the_real_splits_show_no_combination_twice(real):
    _, splits = real
    held = combinations(splits["compositions"])
    for split in ("train", "test"):
        assert not held & (combinations(splits[split]) | {(-1, -1, -1)})
    roles = {role for _, _, role in held}
    assert roles <= {role for _, _, role in combinations(splits["train"])}
    seen = {image.tobytes() for image in splits["train"]["image"]}
    for split in ("test", "compositions"):
        assert not seen & {image.tobytes() for image in splits[split]["image"]}
        assert set(splits[split]["label"].tolist()) <= set(splits["train"]["label"].tolist())


def test_darker_skins_are_darker(real):
    columns = real[1]["train"]
    role = EMOJI_WORDS["role"].index("standing")
    for gender in range(len(GENDERS)):
        rows = (columns["role"] == role) & (columns["gender"] == gender)
        tones = columns["skin_tone"][rows]
        if len(tones) >= 4:
            ink = columns["image"][rows].astype(float).mean(axis=(1, 2, 3))
            light, dark = SKIN_TONES.index("light"), SKIN_TONES.index("dark")
            assert ink[tones == light].mean() > ink[tones == dark].mean()
