"""Reading a colour font: its drawings by code points, and one line for whatever is none."""

import os
import struct
import tracemalloc

import numpy as np
import pytest
from emoji_fonts import HEIGHT, WIDTH, colour, drawing, make_font

from diffjax.data import emoji_font
from diffjax.data.emoji_font import EmojiFont, find_font

WOMAN_FIREFIGHTER, DARK, FLAG = "👩\u200d🚒", "👩🏿\u200d🚒", "🇩🇪"
DRAWINGS = {"😀": 1, "👩": 2, WOMAN_FIREFIGHTER: 3, DARK: 4, FLAG: 5}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("fonts") / "tiny.ttf"
    return make_font(path, {s: drawing(i) for s, i in DRAWINGS.items()})


def test_every_sequence_has_its_own_drawing(file):
    font = EmojiFont(file)
    for sequence, number in DRAWINGS.items():
        assert font.png(sequence) == drawing(number)
    # The selector of coloured pictures adds nothing, wherever it stands.
    assert font.png("👩\ufe0f\u200d🚒\ufe0f") == drawing(3)


@pytest.mark.parametrize(
    "sequence", ["A", "🐧", "🚒", "🇩", "👩🏿", "👩🚒", FLAG + FLAG, "😀😀", ""]
)
def test_what_the_font_would_put_together_is_not_drawn(file, sequence):
    assert EmojiFont(file).png(sequence) is None
    assert EmojiFont(file).pixels(sequence) is None


def test_transparency_is_laid_over_white_in_the_middle_of_a_square(file):
    pixels = EmojiFont(file).pixels("😀")
    assert pixels.shape == (WIDTH, WIDTH, 3) and pixels.dtype == np.uint8
    top = (WIDTH - HEIGHT) // 2 + 32
    inside = np.zeros((WIDTH, WIDTH), bool)
    inside[top : top + 64, 34:102] = True
    assert (pixels[inside] == colour(1)).all() and (pixels[~inside] == 255).all()


def test_a_font_is_found_where_systems_keep_them(file, tmp_path, monkeypatch):
    monkeypatch.setattr(emoji_font, "PLACES", (str(tmp_path / "none"), str(tmp_path / "fonts")))
    with pytest.raises(
        ValueError, match=r"no NotoColorEmoji.ttf in .*fonts-noto-color-emoji.*http"
    ):
        find_font()
    for folder in ("b", "a"):
        target = tmp_path / "fonts" / folder / "NotoColorEmoji.ttf"
        target.parent.mkdir(parents=True)
        target.write_bytes(file.read_bytes())
    assert find_font() == tmp_path / "fonts" / "a" / "NotoColorEmoji.ttf"
    assert find_font(file) == file
    with pytest.raises(ValueError, match=r"absent.ttf: no such font; .*fonts-noto-color-emoji"):
        find_font(tmp_path / "absent.ttf")


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        (("COLR",), r"has outlines in colours \(COLR\), but no colour bitmaps"),
        (("sbix", "SVG "), r"has drawings in SVG and Apple's bitmaps \(sbix\), but no colour"),
        (("EBDT",), "has no colour bitmaps"),
    ],
)
def test_a_font_of_another_kind_says_which(tmp_path, tables, said):
    path = make_font(tmp_path / "other.ttf", {"😀": b""}, tables)
    with pytest.raises(ValueError, match=f"other.ttf: {said}.*fonts-noto-color-emoji") as caught:
        EmojiFont(path)
    assert "\n" not in str(caught.value)


def test_other_files_are_one_line(tmp_path, file):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "woff.ttf").write_bytes(b"wOF2" + bytes(100))
    (tmp_path / "empty.ttf").write_bytes(b"")
    (tmp_path / "short.ttf").write_bytes(file.read_bytes()[:200])
    for name, said in (
        ("pipe", "no file"),
        (".", "no file"),
        ("woff.ttf", "no TrueType font"),
        ("empty.ttf", "no TrueType font"),
        ("short.ttf", "a damaged font"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            EmojiFont(tmp_path / name)
        assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_ranges_of_billions_are_refused_before_they_are_written_out(file, tmp_path):
    data = bytearray(file.read_bytes())
    group = struct.pack(">II", ord("👩"), ord("👩"))
    at = data.index(group)
    assert data.count(group) == 1
    data[at + 4 : at + 8] = struct.pack(">I", 0xFFFFFFFF)
    (tmp_path / "bomb.ttf").write_bytes(data)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"bomb.ttf: .*more code points than there are"):
        EmojiFont(tmp_path / "bomb.ttf")
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def broken(**changes):
    """A PNG of which something is wrong."""
    data = bytearray(drawing(1))
    for at, value in changes.values():
        data[at : at + len(value)] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "damaged"),
        (b"GIF89a" + bytes(60), "no PNG"),
        (broken(width=(16, (200_000).to_bytes(4, "big"))), "200000 x 128 pixels, over 1024"),
        (broken(width=(16, bytes(8))), "0 x 0 pixels"),
        (broken(body=(60, bytes(40))), "corrupt"),
        (drawing(1)[:100], "corrupt"),
    ],
)
def test_a_damaged_drawing_is_one_line_that_names_it(tmp_path, data, said):
    path = make_font(tmp_path / "tiny.ttf", {"😀": data})
    with pytest.raises(ValueError, match=rf"tiny.ttf: the drawing of U\+1F600: {said}") as caught:
        EmojiFont(path).pixels("😀")
    assert "\n" not in str(caught.value)


def test_damage_anywhere_is_one_line_or_does_not_matter(file, tmp_path):
    whole, rng = file.read_bytes(), np.random.default_rng(0)
    refused = 0
    for i in range(100):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), 1 + i % 8):
            data[at] = rng.integers(256)
        path = tmp_path / "damaged.ttf"
        path.write_bytes(data if i % 5 else data[: rng.integers(len(data))])
        try:
            font = EmojiFont(path)
            for sequence in DRAWINGS:
                font.pixels(sequence)
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error) and str(path) in str(error)
    assert 20 < refused < 100
