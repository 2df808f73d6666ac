"""What a sequence of code points shows: by the rules of Unicode, held against Unicode's names."""

import re
from itertools import product

import pytest

from diffjax.data.emoji_captions import caption, captions
from diffjax.data.emoji_words import (
    DIRECTIONS,
    EMOJI_WORDS,
    GENDERS,
    HAIR,
    JOBS,
    KINDS,
    ROLES,
    SKIN_TONES,
    read_emoji,
    unicode_emoji,
)

TABLE = unicode_emoji()
EMOJI = read_emoji(TABLE)
BY_SEQUENCE = {emoji.sequence: emoji for emoji in EMOJI}
# Of one drawing each: neither has a skin to choose.
NO_SKIN = ("genie", "zombie")


def said(emoji):
    """The factors of an emoji in words, without those that it lacks."""
    values = {name: (words, getattr(emoji, name)) for name, words in EMOJI_WORDS.items()}
    return {name: words[i] for name, (words, i) in values.items() if i >= 0}


@pytest.mark.parametrize(
    ("sequence", "name", "concept", "factors"),
    [
        ("🐧", "penguin", "penguin", dict(kind="other")),
        ("🇨🇱", "flag of Chile", "flag of Chile", dict(kind="flag")),
        ("👍", "thumbs up", "thumbs up", dict(kind="other", skin_tone="yellow")),
        ("👍🏿", "thumbs up", "thumbs up", dict(kind="other", skin_tone="dark")),
        ("👩🏿‍🚒", "woman firefighter", "firefighter",
         dict(gender="woman", skin_tone="dark", role="firefighter")),
        ("🧑‍⚕️", "health worker", "health worker",
         dict(gender="person", skin_tone="yellow", role="health worker")),
        ("👷🏼", "construction worker", "construction worker",
         dict(gender="person", skin_tone="medium-light", role="construction worker")),
        ("🏃🏽‍♂️‍➡️", "man running", "person running",
         dict(gender="man", skin_tone="medium", role="running", direction="right")),
        ("🏃🏽‍♂️", "man running", "person running",
         dict(gender="man", skin_tone="medium", role="running", direction="left")),
        ("🧟‍♀️", "woman zombie", "zombie", dict(gender="woman", role="zombie")),
        ("👩🏻‍🦰", "woman with red hair", "person with red hair",
         dict(gender="woman", skin_tone="light", hair="red hair")),
        ("👨🏾‍🦲", "bald man", "bald person",
         dict(gender="man", skin_tone="medium-dark", hair="bald")),
        ("👱", "person with blond hair", "person with blond hair",
         dict(gender="person", skin_tone="yellow", hair="blond hair")),
        ("👵🏻", "old woman", "old woman", dict(gender="woman", skin_tone="light")),
        ("👩", "woman", "person", dict(gender="woman", skin_tone="yellow")),
        # An object alone is nobody, two people have no one gender, a family no skin.
        ("🚒", "fire engine", "fire engine", dict(kind="other")),
        ("👩🏻‍🤝‍👨🏿", "woman and man holding hands", "woman and man holding hands",
         dict(kind="other")),
        ("👩🏻‍❤️‍👨🏻", "couple with heart woman man", "couple with heart woman man",
         dict(kind="other", skin_tone="light")),
        ("👨‍👦", "family man boy", "family man boy", dict(kind="other")),
    ],
)  # fmt: skip
def test_what_a_sequence_shows(sequence, name, concept, factors):
    emoji = BY_SEQUENCE[sequence]
    assert (emoji.name, emoji.concept) == (name, concept)
    assert said(emoji) == {"kind": "person", **factors}


def test_two_of_one_gender_are_no_one_person():
    for sequence in ("👯‍♀️", "🤼‍♂️", "👭", "👬", "💏"):
        assert BY_SEQUENCE[sequence].gender == BY_SEQUENCE[sequence].role == -1


def test_code_points_say_what_names_say():
    for emoji in EMOJI:
        raw = TABLE[emoji.sequence]["en"].strip(":")
        tones = re.findall(r"(?<![a-z-])((?:medium-)?(?:light|dark)|medium)_skin_tone", raw)
        if tones:
            assert [SKIN_TONES[t] for t in emoji.tones] in (tones, tones * 2), raw
        else:
            assert set(emoji.tones) <= {0}, raw
        if emoji.direction >= 0:
            assert DIRECTIONS[emoji.direction] == ("right" if "facing_right" in raw else "left")
        else:
            assert "facing_right" not in raw
        words = set(raw.split("_"))
        if emoji.gender == GENDERS.index("woman"):
            assert words & {"woman", "princess", "mermaid", "Mrs."}, raw
        if emoji.gender == GENDERS.index("man"):
            assert words & {"man", "prince", "merman", "Santa"}, raw
        if emoji.gender == GENDERS.index("person"):
            assert not words & {"woman", "man", "women", "men"}, raw
        if emoji.role >= 0 and emoji.gender == 0 and "merperson" not in raw:
            assert ROLES[emoji.role].replace(" ", "_") in raw


def test_every_role_is_drawn_of_everybody():
    found = [(e.role, e.gender, e.skin_tone, e.direction) for e in EMOJI if e.role >= 0]
    assert len(set(found)) == len(found)
    whole = {found[:3] for found in found}
    for role, gender, tone in product(*(range(len(w)) for w in (ROLES, GENDERS, SKIN_TONES))):
        assert ((role, gender, tone) in whole) == (ROLES[role] not in NO_SKIN)
    for name, words in EMOJI_WORDS.items():
        assert {getattr(e, name) for e in EMOJI} == {-1, *range(len(words))} - (
            {-1} if name == "kind" else set()
        )
        assert len(set(words)) == len(words)


def test_indices_are_what_records_were_written_with():
    assert len(JOBS) == 29 and len(ROLES) == 67
    assert (ROLES[9], ROLES[29], ROLES[57]) == ("firefighter", "biking", "running")
    assert HAIR.index("beard") == 5 and KINDS == ("person", "flag", "other")
    assert SKIN_TONES == ("yellow", "light", "medium-light", "medium", "medium-dark", "dark")


@pytest.mark.parametrize(
    ("sequence", "texts"),
    [
        ("😀", ["grinning face", "grinning", "grinning face emoji"]),
        (
            "🏃🏽‍♂️‍➡️",
            [
                "a man running",
                "an emoji of a man running",
                "a medium-skinned man running facing right",
                "an emoji of a man running facing right with medium skin",
                "a man running facing right, medium skin tone",
            ],
        ),
        ("🧟", ["a zombie", "an emoji of a zombie"]),
        (
            "👩🏻‍🤝‍👨🏿",
            [
                "woman and man holding hands",
                "woman and man holding hands emoji",
                "woman and man holding hands emoji with light skin and dark skin",
                "woman and man holding hands, light skin tone and dark skin tone",
            ],
        ),
    ],
)
def test_captions(sequence, texts):
    assert captions(BY_SEQUENCE[sequence]) == texts


def test_the_last_caption_tells_emoji_apart():
    whole = [caption(emoji) for emoji in EMOJI]
    assert len(set(whole)) == len(whole)
    for emoji in EMOJI:
        assert caption(emoji) == captions(emoji)[-1]
        assert len(set(captions(emoji))) == len(captions(emoji)) >= 2
        for text in captions(emoji):
            assert "_" not in text and ":" not in text and text == text.strip()
            assert not re.search(r"\ban? [aeiou]", text) or re.search(r"\ban [aeiou]", text)
            if emoji.gender == 0:
                assert not re.search(r"\b(wo)?man\b", text)
