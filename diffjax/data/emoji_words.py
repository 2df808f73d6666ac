"""The words of emoji: what a sequence of code points shows, read by the rules of Unicode.

Technical standard 51 says how people are spelt: a person and an object, joined (a woman and a fire
engine are a woman firefighter), or an activity and a sign (running, female), each with a modifier
for the skin; two skins for two people, an arrow for those who face right. A factor is an index into
its tuple of names below; -1 is "none": nothing in a drawing of a cat has a gender.

The tables are ours and do not change with the package `emoji`, which gives the names: a later
version adds drawings, but moves no index.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KINDS = ("person", "flag", "other")
GENDERS = ("person", "woman", "man")
SKIN_TONES = ("yellow", "light", "medium-light", "medium", "medium-dark", "dark")
DIRECTIONS = ("left", "right")  # of the few who are drawn both ways
# Name -> the code point that says it: an object that a person is joined with, or one that is a
# person by itself.
HAIR_MARKS: Mapping[str, str] = {
    "red hair": "🦰", "curly hair": "🦱", "white hair": "🦳", "bald": "🦲", "blond hair": "👱",
    "beard": "🧔",
}  # fmt: skip
JOB_MARKS: Mapping[str, str] = {
    "artist": "🎨", "astronaut": "🚀", "construction worker": "👷", "cook": "🍳",
    "detective": "🕵", "elf": "🧝", "factory worker": "🏭", "fairy": "🧚", "farmer": "🌾",
    "firefighter": "🚒", "genie": "🧞", "guard": "💂", "health worker": "⚕", "judge": "⚖",
    "mage": "🧙", "mechanic": "🔧", "merperson": "🧜", "office worker": "💼", "pilot": "✈",
    "police officer": "👮", "scientist": "🔬", "singer": "🎤", "student": "🎓", "superhero": "🦸",
    "supervillain": "🦹", "teacher": "🏫", "technologist": "💻", "vampire": "🧛", "zombie": "🧟",
}  # fmt: skip
ACTIVITY_MARKS: Mapping[str, str] = {
    "biking": "🚴", "bouncing ball": "⛹", "bowing": "🙇", "cartwheeling": "🤸", "climbing": "🧗",
    "deaf": "🧏", "facepalming": "🤦", "feeding baby": "🍼", "frowning": "🙍", "gesturing NO": "🙅",
    "gesturing OK": "🙆", "getting haircut": "💇", "getting massage": "💆", "golfing": "🏌",
    "in lotus position": "🧘", "in manual wheelchair": "🦽", "in motorized wheelchair": "🦼",
    "in steamy room": "🧖", "in tuxedo": "🤵", "juggling": "🤹", "kneeling": "🧎",
    "lifting weights": "🏋", "mountain biking": "🚵", "playing handball": "🤾",
    "playing water polo": "🤽", "pouting": "🙎", "raising hand": "🙋", "rowing boat": "🚣",
    "running": "🏃", "shrugging": "🤷", "standing": "🧍", "surfing": "🏄", "swimming": "🏊",
    "tipping hand": "💁", "walking": "🚶", "wearing turban": "👳", "with veil": "👰",
    "with white cane": "🦯",
}  # fmt: skip
HAIR, JOBS, ACTIVITIES = tuple(HAIR_MARKS), tuple(JOB_MARKS), tuple(ACTIVITY_MARKS)
ROLES = (*JOBS, *ACTIVITIES)  # what somebody is, and what somebody does or wears

# Field of a record -> its words; each is int32, -1 where there is none.
EMOJI_WORDS: Mapping[str, tuple[str, ...]] = {
    "kind": KINDS,
    "gender": GENDERS,
    "skin_tone": SKIN_TONES,
    "hair": HAIR,
    "role": ROLES,
    "direction": DIRECTIONS,
}

_JOINER, _AS_PICTURE, _ARROW = "\u200d", "\ufe0f", "\u27a1"
_TONES = "".join(map(chr, range(0x1F3FB, 0x1F400)))
_PEOPLE = "🧑👩👨"  # in the order of GENDERS
_SIGNS = {"♀": 1, "♂": 2}
_RELATIVES = set("🧑👩👨🧒👧👦👶")
# People whose code point holds their gender, in the order of GENDERS.
_GENDERED = {
    c: i for i, group in enumerate(("🧓🫅🫄", "👵👸🤶💃🤰🧕", "👴🤴🎅🕺🫃")) for c in group
}
_PLURAL = "👯🤼"  # two people, of one gender
_HAIR_OF = {mark: i for i, mark in enumerate(HAIR_MARKS.values())}
_ROLE_OF = {mark: i for i, mark in enumerate((*JOB_MARKS.values(), *ACTIVITY_MARKS.values()))}
_FULLY_QUALIFIED = 2  # the package's `emoji.STATUS["fully_qualified"]`
_TONE_NAMES = re.compile(rf"_({'|'.join(SKIN_TONES[1:])})_skin_tone(?=_|$)")
_FACING = "_facing_right"


@dataclass(frozen=True)
class Emoji:
    """One emoji, and what it shows.

    Attributes:
      sequence: its code points.
      name: Unicode's, without the skin and the direction: "woman firefighter".
      concept: the name, without the gender too: "firefighter".
      tones: of everybody in it, indices into SKIN_TONES; () where no skin can be chosen.
      aliases: further names.
      kind, gender, skin_tone, hair, role, direction: indices into EMOJI_WORDS; -1 for none, and
        where two people differ.
    """

    sequence: str
    name: str
    concept: str
    tones: tuple[int, ...] = ()
    aliases: tuple[str, ...] = ()
    kind: int = KINDS.index("other")
    gender: int = -1
    skin_tone: int = -1
    hair: int = -1
    role: int = -1
    direction: int = -1


def unicode_emoji() -> Mapping[str, Mapping[str, Any]]:
    """The table of the package `emoji`: sequence -> its names ("en", "alias"), its "status", and
    "E", the version of Unicode's emoji that brought it."""
    import emoji  # a table of 5,000 rows, which only the set's preparation reads

    return emoji.EMOJI_DATA


def read_emoji(table: Mapping[str, Mapping[str, Any]]) -> list[Emoji]:
    """All fully qualified emoji of a table such as `unicode_emoji`, older ones first."""
    rows = {s: row for s, row in table.items() if row["status"] == _FULLY_QUALIFIED}
    spelt = {sequence: _Spelling.of(sequence) for sequence in rows}
    toned = {s.plain for s in spelt.values() if s.tones}
    facing = {s.plain for s in spelt.values() if s.right}
    # Who has a woman and a man beside them is a person: that says no code point of their own.
    persons = {s.neutral for s in spelt.values() if s.gender > 0}
    names = {spelt[sequence].whole: _name(sequence, row) for sequence, row in rows.items()}
    found = []
    for sequence in sorted(rows, key=lambda s: rows[s]["E"]):
        how = spelt[sequence]
        gender = 0 if how.gender < 0 and how.plain in persons else how.gender
        tones = how.tones or ((0,) if how.plain in toned else ())
        name = _name(sequence, rows[sequence])
        found.append(
            Emoji(
                sequence=sequence,
                name=name,
                concept=names.get(how.neutral, name),
                tones=tones,
                aliases=_aliases(rows[sequence], name) if gender < 0 else (),
                kind=_kind(how.plain, gender),
                gender=gender,
                skin_tone=min(tones) if len(set(tones)) == 1 else -1,
                hair=_HAIR_OF.get(how.mark, -1) if gender >= 0 else -1,
                role=_ROLE_OF.get(how.mark, -1) if gender >= 0 else -1,
                direction=int(how.right) if how.plain in facing else -1,
            )
        )
    return found


@dataclass(frozen=True)
class _Spelling:
    """A sequence taken apart.

    Attributes:
      whole: all of it, but for the selector of coloured pictures, which adds nothing.
      plain: without skin and direction.
      neutral: of nobody's gender either.
      tones: of the skins, indices into SKIN_TONES.
      right: whether an arrow follows.
      gender: index into GENDERS, where a code point says it; else -1.
      mark: the code point that says what somebody is, does or looks like.
    """

    whole: str
    plain: str
    neutral: str
    tones: tuple[int, ...]
    right: bool
    gender: int
    mark: str

    @classmethod
    def of(cls, sequence: str) -> _Spelling:
        whole = sequence.replace(_AS_PICTURE, "")
        tones = tuple(SKIN_TONES.index("light") + _TONES.index(c) for c in whole if c in _TONES)
        plain = "".join(c for c in whole if c not in _TONES) or whole
        right = plain.endswith(_JOINER + _ARROW)
        plain = plain.removesuffix(_JOINER + _ARROW)
        gender, mark, neutral = -1, plain[:1], plain
        parts = plain.split(_JOINER)
        if plain[:1] in _PLURAL:
            pass
        elif len(parts) == 2 and parts[1] in _SIGNS:
            gender, neutral = _SIGNS[parts[1]], parts[0]
        elif parts[0] in _PEOPLE and len(parts) <= 2 and _RELATIVES.isdisjoint(parts[1:]):
            gender, mark = _PEOPLE.index(parts[0]), parts[-1]
            neutral = _JOINER.join((_PEOPLE[0], *parts[1:]))
        else:
            gender = _GENDERED.get(plain, -1)
        return cls(whole, plain, neutral, tones, right, gender, mark)


def _kind(plain: str, gender: int) -> int:
    if gender >= 0:
        return KINDS.index("person")
    return KINDS.index("flag" if _is_region(plain) or plain[0] in "🏴🏳" else "other")


def _is_region(sequence: str) -> bool:
    """Whether two regional indicators, or tags, name a country or a part of one."""
    return "\U0001f1e6" <= sequence[0] <= "\U0001f1ff" or "\U000e007f" in sequence


def _name(sequence: str, row: Mapping[str, Any]) -> str:
    """Unicode's name in the words of a sentence: "woman with red hair", "flag of Chile"."""
    words = _TONE_NAMES.sub("", row["en"].strip(":")).removesuffix(_FACING)
    name = words.replace("_", " ").replace("’", "'")
    if _is_region(sequence):
        return f"flag of {name}"
    who, _, rest = name.partition(" ")
    if who in GENDERS and rest == "bald":
        return f"bald {who}"
    if who in GENDERS and rest in HAIR:
        return f"{who} with {rest}"
    return name


def _aliases(row: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The package's further names that are words, not codes."""
    names = (alias.strip(":").replace("_", " ") for alias in row.get("alias", ()))
    return tuple(n for n in names if n != name and re.fullmatch(r"[A-Za-z][a-z]{2,}( [a-z]+)*", n))
