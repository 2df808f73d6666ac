"""Pictures: the right 8-bit one or a refusal, in bounded memory, of regular files alone."""

import io
import os
import socket
import struct
import subprocess
import sys
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from diffjax.data import images
from diffjax.data.folder import FolderSource
from diffjax.data.image_formats import REFUSED, formats, suffixes
from diffjax.data.images import CORRUPT, NoPicture, as_array, decode, to_pixels
from diffjax.pretrained.search_index import Folder
from tests.data.pictures import pixels, write

LEVELS = np.array([[0, 1000, 32768, 65535]], np.uint16)
SCALED = np.rint(LEVELS / 257).astype(np.uint8)


def png(bits, kind, rows, clear=None):
    """A PNG of raw `rows`: what no encoder at hand writes."""

    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    width = len(rows[0]) * 8 // bits // {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    header = struct.pack(">IIBBBBB", width, len(rows), bits, kind, 0, 0, 0)
    clear = b"" if clear is None else chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear))
    content = zlib.compress(b"".join(b"\0" + row for row in rows))
    ends = chunk(b"IHDR", header) + clear, chunk(b"IDAT", content) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(ends)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def grey(data):
    return decode(data, 1)[..., 0].tolist()


def test_grey_of_16_bits_whatever_its_file():
    for kind, mode in [("PNG", "I;16"), ("TIFF", "I;16"), ("TIFF", "I;16B"), ("JPEG2000", "I;16")]:
        image = Image.fromarray(LEVELS.repeat(4, 0).repeat(4, 1))
        image = image if mode == "I;16" else image.convert("I").convert(mode)
        found = decode(encoded(image, kind), 1)[::4, ::4, 0]
        assert found.tolist() == SCALED.tolist(), (kind, mode)
    raw = LEVELS.astype(">u2").tobytes()
    assert grey(b"P5 4 1 65535\n" + raw) == SCALED.tolist()
    assert grey(b"P5 2 1 1023\n" + struct.pack(">HH", 1023, 512)) == [[255, 128]]
    assert grey(png(16, 4, [struct.pack(">HHHH", 32768, 65535, 9, 0)])) == [[128, 255]]
    np.testing.assert_array_equal(decode(png(16, 0, [raw]), 3), SCALED[..., None].repeat(3, 2))


def test_grey_whose_white_is_not_the_largest_of_16_bits():
    inverted = encoded(Image.fromarray(LEVELS), "TIFF").replace(
        struct.pack("<HHIHH", 262, 3, 1, 1, 0), struct.pack("<HHIHH", 262, 3, 1, 0, 0)
    )
    assert grey(inverted) == (255 - SCALED).tolist()
    twelve = encoded(Image.fromarray(np.zeros((1, 3), np.uint16)), "TIFF")
    twelve = twelve.replace(
        struct.pack("<HHIHH", 258, 3, 1, 16, 0), struct.pack("<HHIHH", 258, 3, 1, 12, 0)
    )
    with Image.open(io.BytesIO(twelve)) as opened:
        assert opened.tile[0].args[0] == "I;12"
        place = opened.tag_v2[273][0]
    twelve = twelve[:place] + bytes([0xFF, 0xF8, 0x00, 0x00, 0x00, 0x00])  # 4095, 2048, 0
    assert grey(twelve) == [[255, 128, 0]]


def test_the_transparent_level_of_grey_is_white():
    raw = LEVELS.astype(">u2").tobytes()
    assert grey(png(16, 0, [raw], clear=(1000,))) == [[0, 255, 128, 255]]
    assert grey(png(8, 0, [bytes([7, 8])], clear=(7,))) == [[255, 8]]
    assert grey(png(4, 0, [bytes([0x5A])], clear=(5,))) == [[255, 170]]
    assert grey(png(2, 0, [bytes([0b00011011])], clear=(1,))) == [[0, 255, 170, 255]]
    assert grey(png(1, 0, [bytes([0b01010101])], clear=(0,))) == [[255] * 8]
    colours = decode(png(8, 2, [bytes([1, 2, 3, 4, 5, 6])], clear=(1, 2, 3)), 3)
    assert colours.tolist() == [[[255] * 3, [4, 5, 6]]]
    with pytest.raises(NoPicture, match="16-bit colours of which one is transparent"):
        decode(png(16, 2, [bytes(12)], clear=(1, 2, 3)), 3)
    assert decode(png(16, 2, [bytes([9, 0] * 6)]), 3).tolist() == [[[9] * 3] * 2]


FLOATS = Image.fromarray(np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4))
WHOLE = Image.fromarray(np.arange(16, dtype=np.int32).reshape(4, 4) * 2**26)


@pytest.mark.parametrize(
    "name, image, message",
    [
        ("a.tiff", FLOATS, "pixels are floats, which say no white; save it with 8 or 16 bits"),
        ("a.pfm", FLOATS, "pixels are floats"),
        ("a.tif", WHOLE, "pixels are signed or 32-bit integers, which say no white"),
        ("a.im", WHOLE, "pixels are signed or 32-bit integers"),
        ("a.tiff", Image.new("LAB", (4, 4), (90, 200, 40)), "colours are CIELAB"),
    ],
)
def test_numbers_that_say_no_picture_are_refused_by_name(tmp_path, caplog, name, image, message):
    image.save(tmp_path / name)
    with pytest.raises(ValueError, match=message) as error:
        FolderSource(tmp_path)
    assert str(tmp_path / name) in str(error.value)
    write(tmp_path / "b.png", pixels(0))
    source = FolderSource(tmp_path, on_corrupt="skip")
    assert len(source) == 1 and message in source.skipped[0][1] and message in caplog.text


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_colours_survive_every_mode(mode):
    """Left half green, right half transparent where the mode can say so."""
    alpha = mode in ("LA", "RGBA")
    image = Image.new("RGBA", (8, 4), (255, 255, 255, 255) if mode == "1" else (0, 255, 0, 255))
    blue = 0 if mode == "1" else 255
    image.paste((0, 0, blue, 0 if alpha else 255), (4, 0, 8, 4))
    image = image.convert(mode)
    kind = {"CMYK": "TIFF", "YCbCr": "TIFF"}.get(mode, "PNG")
    found = decode(encoded(image, kind), 3).astype(int)
    left = image.convert("RGB").getpixel((0, 0))
    right = (255, 255, 255) if alpha else image.convert("RGB").getpixel((7, 0))
    assert abs(found[:, :4] - left).max() <= 1 and abs(found[:, 4:] - right).max() <= 1


def test_palettes_with_transparency_and_first_frames():
    image = Image.new("P", (8, 4), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    alpha = Image.new("L", (8, 4), 255)
    alpha.paste(0, (4, 0, 8, 4))
    image.putalpha(alpha)
    assert image.mode == "PA"
    assert to_pixels(image, 3)[0, [0, 7]].tolist() == [[10, 200, 30], [255, 255, 255]]
    frames = [Image.new("P", (4, 4), i) for i in (1, 2)]
    for frame in frames:
        frame.putpalette([0, 0, 0, 10, 20, 30, 200, 0, 0])
    assert (decode(encoded(frames[0], "PNG", transparency=1), 3) == 255).all()
    clear = encoded(frames[0], "PNG", transparency=bytes([255, 128, 255]))
    assert abs(decode(clear, 3)[0, 0].astype(int) - [132, 137, 142]).max() <= 1
    colours = [frame.convert("RGB") for frame in frames]
    for kind in ("GIF", "PNG", "TIFF", "WEBP"):
        lossless = {"lossless": True} if kind == "WEBP" else {}
        both = encoded(colours[0], kind, save_all=True, append_images=colours[1:], **lossless)
        assert decode(both, 3)[0, 0].tolist() == [10, 20, 30], kind


def test_whatever_pillow_opens_is_an_image(tmp_path, caplog):
    usual = {".jfif", ".jpe", ".jp2", ".j2k", ".tga", ".ico", ".pcx", ".qoi", ".dds", ".sgi"}
    usual |= {".apng", ".pbm", ".pnm", ".dib", ".webp", ".mpo", ".icns", ".xbm"}
    assert usual <= suffixes() and not {".pdf", ".eps", ".ps", ".mpg", ".wmf", ".h5"} & suffixes()
    kinds = Image.registered_extensions()
    made = []
    for i, suffix in enumerate(sorted(usual)):
        image = Image.fromarray(pixels(i, 16, 16)).convert("1" if suffix == ".xbm" else "RGB")
        name = f"{i:02d}{suffix.upper() if i % 2 else suffix}"
        image.save(tmp_path / name, kinds[suffix])
        made.append(name)
    for name in ("a.heic2", "b.MP4", "c.mp4", "d"):
        (tmp_path / name).write_bytes(b"?")
    assert [e.file for e in FolderSource(tmp_path, size=16).entries] == made
    assert caplog.text.count("left out 2 .mp4, 1 .heic2, 1 without suffix") == 1
    assert Folder(tmp_path).names == made and "2 .mp4" in Folder(tmp_path).left_out


def test_a_program_is_never_run_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("started a program"))
    (tmp_path / "a.png").write_bytes(encoded(Image.new("RGB", (8, 8)), "EPS"))
    with pytest.raises(ValueError, match=r"a.png: corrupt image \(UnidentifiedImageError"):
        FolderSource(tmp_path)
    assert not set(REFUSED) & set(formats())


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    write(tmp_path / "a.png", pixels(0, 12, 10))
    with pytest.raises(ValueError, match=r"a.png: corrupt image \(DecompressionBombError: "):
        FolderSource(tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_files_of_every_kind_are_corrupt_and_nothing_else():
    draw = np.random.default_rng(0)
    image = Image.fromarray(pixels(0, 16, 16))
    tried = 0
    for kind in sorted(set(formats()) & set(Image.SAVE) - {"ICNS"}):
        try:
            data = encoded(image.convert("1" if kind in ("XBM", "MSP") else "RGB"), kind)
        except (OSError, ValueError):
            continue
        for _ in range(40):
            broken = np.frombuffer(data, np.uint8).copy()
            places = draw.integers(0, min(len(broken), 300), 4)
            broken[places] = draw.integers(0, 256, 4)
            cut = broken[: draw.integers(1, len(broken) + 1)]
            for content in (broken.tobytes(), cut.tobytes()):
                try:
                    assert decode(content, 3).shape[2] == 3
                except CORRUPT:
                    tried += 1
    assert tried > 100


PEAK = """
import io, resource, sys
from PIL import Image
from diffjax.data.images import decode
data = open(sys.argv[1], "rb").read()
decode(open(sys.argv[2], "rb").read(), 3)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert decode(data, 3).shape[2] == 3
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize("side", [2000, pytest.param(13_300, marks=pytest.mark.heavy)])
@pytest.mark.parametrize("mode", ["I;16", "RGBA"])
def test_memory_is_a_few_times_the_decoded_size(tmp_path, side, mode):
    image = Image.new(mode, (side, side), 30_000 if mode == "I;16" else (1, 2, 3, 100))
    image.save(tmp_path / "large.png", compress_level=1)
    image.crop((0, 0, 8, 8)).save(tmp_path / "small.png")
    command = [sys.executable, "-c", PEAK, tmp_path / "large.png", tmp_path / "small.png"]
    peak = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    # Pillow's 2 or 4 bytes a pixel, our 3, and a strip that is converted.
    assert peak < (2.5 * 3 * side**2 + 40 * 2**20), f"{peak / 3 / side**2:.1f} times"


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_only_regular_files_are_read(tmp_path, kind):
    file = tmp_path / "set" / "a.png"
    write(tmp_path / "set" / "b.png", pixels(0))
    listener, timers = socket.socket(socket.AF_UNIX), []

    def special(path):
        if kind == "pipe":
            os.mkfifo(path)
            # Who waits for a writer gets one, and an empty file.
            later = threading.Timer(10, lambda: os.close(os.open(path, os.O_RDWR)))
            later.daemon = True
            later.start()
            timers.append(later)
        elif kind == "device":
            path.symlink_to("/dev/null")  # What reads it ends, here.
        else:
            os.chdir(path.parent)  # The path of a socket has 108 bytes.
            listener.bind(path.name)
        return path

    here = os.getcwd()
    try:
        special(file)
        what = {"pipe": "a named pipe", "device": "a device", "socket": "a socket"}[kind]
        with pytest.raises(ValueError, match=rf"a.png: corrupt image \(OSError: is {what}, not"):
            FolderSource(file.parent)
        source = FolderSource(file.parent, on_corrupt="skip")
        assert [name for name, _ in source.skipped] == ["a.png"] and len(source) == 1
        with pytest.raises(OSError, match=f"is {what}, not a file"):
            Folder(file.parent).pixels(0)
        file.unlink()
        for name in ("metadata.jsonl", "captions.csv", "b.txt"):
            if kind == "socket":
                listener.close()
                listener = socket.socket(socket.AF_UNIX)
            place = special(file.parent / name)
            with pytest.raises(ValueError, match=rf"{name}: cannot be read \(is {what}, not"):
                FolderSource(file.parent)
            place.unlink()
    finally:
        for timer in timers:
            timer.cancel()
        listener.close()
        os.chdir(here)


def test_strips_change_nothing(monkeypatch):
    image = Image.fromarray(pixels(3, 40, 60))
    for channels, mode in ((1, "L"), (3, "RGB")):
        want = as_array(image.convert(mode))
        np.testing.assert_array_equal(decode(encoded(image, "PNG"), channels), want)
    monkeypatch.setattr(
        images, "STRIP", 130
    )  # Two rows at a time, where there is transparency too.
    clear = image.copy()
    clear.putalpha(Image.fromarray(pixels(4, 40, 60, 1)[..., 0]))
    white = Image.new("RGBA", clear.size, (255, 255, 255, 255))
    want = as_array(Image.alpha_composite(white, clear).convert("RGB"))
    np.testing.assert_array_equal(decode(encoded(clear, "PNG"), 3), want)
