"""Captions of emoji, in several phrasings, the shortest first and the one that says all last."""

from __future__ import annotations

from diffjax.data.emoji_words import DIRECTIONS, SKIN_TONES, Emoji


def caption(emoji: Emoji) -> str:
    """The caption that says all: "a woman firefighter, dark skin tone"."""
    return captions(emoji)[-1]


def captions(emoji: Emoji) -> list[str]:
    """All captions of an emoji, none twice.

    Of one person: "a woman running", "an emoji of a woman running", "a dark-skinned woman running
    facing left", "an emoji of a woman running facing left with dark skin", "a woman running facing
    left, dark skin tone". Everything else goes by its name, without an article that the name does
    not say how to choose: "thumbs up", "thumbs up emoji", "thumbs up, dark skin tone".
    """
    name = emoji.name
    if emoji.gender < 0:
        texts = [name, *emoji.aliases, f"{name} emoji", *_with_skin(emoji, name, f"{name} emoji")]
    else:
        whole = name
        if emoji.direction >= 0:
            whole += f" facing {DIRECTIONS[emoji.direction]}"
        texts = [_article(name), f"an emoji of {_article(name)}"]
        if len(emoji.tones) == 1:
            texts.append(_article(f"{SKIN_TONES[emoji.tones[0]]}-skinned {whole}"))
        whole = _article(whole)
        texts += _with_skin(emoji, whole, f"an emoji of {whole}") or [whole]
    return list(dict.fromkeys(texts))


def _with_skin(emoji: Emoji, name: str, picture: str) -> list[str]:
    """The phrasings that say everybody's skin; none where there is none to choose."""
    if not emoji.tones:
        return []
    said = " and ".join(f"{SKIN_TONES[tone]} skin" for tone in dict.fromkeys(emoji.tones))
    return [f"{picture} with {said}", f"{name}, {said.replace('skin', 'skin tone')}"]


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
