"""Folders: every layout, every conversion, and every fault by the name of its file."""

import json

import numpy as np
import pytest
from PIL import Image

from diffjax.data.folder import FolderSource
from diffjax.data.loader import Loader
from diffjax.data.sources import make_source
from diffjax.data.transforms import make_transforms
from tests.data.pictures import pixels, write


def fails(message, path, **options):
    with pytest.raises(ValueError) as error:
        make_source("folder", path=path, **options)
    assert message in str(error.value), str(error.value)
    assert "\n" not in str(error.value)


def captioned(folder, rows):
    for i in range(3):
        write(folder / f"{i}.png", pixels(i))
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_class_folders(class_folder):
    source = FolderSource(class_folder)
    assert source.info.class_names == ("cat", "dog") and source.info.num_classes == 2
    assert source.info.image_shape == (12, 10, 3) and len(source) == 6
    assert [source[i]["label"] for i in range(6)] == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(source[4]["image"], pixels(11))


def test_metadata_jsonl_with_captions_and_named_labels(tmp_path):
    rows = [
        {"file_name": "2.png", "caption": ["two", "deux"], "label": "b"},
        {"file_name": "0.png", "text": "zero", "label": "a"},
        {"file_name": "1.png", "caption": "one", "label": "b"},
    ]
    source = FolderSource(captioned(tmp_path, rows))
    assert [source[i]["caption"] for i in range(3)] == ["zero", "one", ["two", "deux"]]
    assert [source[i]["label"] for i in range(3)] == [0, 1, 1]
    assert source.info.class_names == ("a", "b")
    np.testing.assert_array_equal(source[2]["image"], pixels(2))


def test_captions_csv(tmp_path):
    for i in range(2):
        write(tmp_path / f"{i}.png", pixels(i))
    (tmp_path / "captions.csv").write_text(
        'file_name,caption,label\n1.png,"one, two",3\n0.png,nil,0\n'
    )
    source = FolderSource(tmp_path)
    assert [source[i]["caption"] for i in range(2)] == ["nil", "one, two"]
    assert [source[i]["label"] for i in range(2)] == [0, 3] and source.info.num_classes == 4


def test_sidecar_text(tmp_path):
    for i in range(2):
        write(tmp_path / f"{i}.png", pixels(i))
        (tmp_path / f"{i}.txt").write_text(f"number {i}\n")
    assert [FolderSource(tmp_path)[i]["caption"] for i in range(2)] == ["number 0", "number 1"]
    (tmp_path / "1.txt").unlink()
    fails(f"{tmp_path}/1.png: other images have a caption file", tmp_path)


def test_images_alone(tmp_path):
    write(tmp_path / "a.png", pixels(0))
    write(tmp_path / "b.PNG", pixels(1, 5, 5))
    write(tmp_path / ".hidden.png", pixels(2))
    source = FolderSource(tmp_path)
    assert set(source[0]) == {"image"} and len(source) == 2
    assert source.info.image_shape == (None, None, 3) and source.info.num_classes == 0


def test_sizes_must_be_made_equal(tmp_path):
    for i in range(4):
        write(tmp_path / f"{i}.png", pixels(i, 10 + i, 20))
    to_float = dict(type="to_float")
    loader = Loader(FolderSource(tmp_path), make_transforms([]), 4, 0)
    with pytest.raises(ValueError, match=r"images differ in size .* add center_crop_resize"):
        loader.batch(0)
    resized = make_transforms([dict(type="center_crop_resize", size=8), to_float])
    by_transform = Loader(FolderSource(tmp_path), resized, 4, 0).batch(0)
    by_source = Loader(FolderSource(tmp_path, size=8), make_transforms([to_float]), 4, 0)
    np.testing.assert_array_equal(by_transform["image"], by_source.batch(0)["image"])


def test_modes_are_converted(tmp_path):
    grey = pixels(0, channels=1)
    write(tmp_path / "a_grey.png", grey)
    deep = grey[..., 0].astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "b_deep.png")
    clear = np.dstack([pixels(1), np.zeros((12, 10, 1), np.uint8)])
    write(tmp_path / "c_clear.png", clear)
    half = np.dstack([np.zeros((12, 10, 3), np.uint8), np.full((12, 10, 1), 51, np.uint8)])
    write(tmp_path / "d_half.png", half)
    Image.fromarray(pixels(2)).quantize(200).save(tmp_path / "e_palette.png")
    source = FolderSource(tmp_path)
    for i in (0, 1):
        np.testing.assert_array_equal(source[i]["image"], grey.repeat(3, axis=2))
    assert (source[2]["image"] == 255).all()
    assert (source[3]["image"] == 204).all()
    assert source[4]["image"].shape == (12, 10, 3)
    assert FolderSource(tmp_path, channels=1)[4]["image"].shape == (12, 10, 1)
    fails(f"{tmp_path}: images have 1 or 3 channels, not 4", tmp_path, channels=4)


def test_photographs_are_turned_upright(tmp_path):
    image = Image.fromarray(pixels(0, 8, 6))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(FolderSource(tmp_path)[0]["image"], np.rot90(pixels(0, 8, 6), -1))


def test_no_folder_and_no_images(tmp_path):
    fails(f"{tmp_path}/nowhere: no such folder", tmp_path / "nowhere")
    fails(f"{tmp_path}: no images (.png", tmp_path)


def test_a_corrupt_image_is_an_error_that_names_it(class_folder):
    broken = class_folder / "cat" / "1.png"
    broken.write_bytes(broken.read_bytes()[:200])
    fails(f"{broken}: corrupt image (", class_folder)
    fails("remove it, or set on_corrupt='skip'", class_folder)
    broken.write_text("not an image")
    fails(f"{broken}: corrupt image (UnidentifiedImageError", class_folder)
    broken.write_bytes(b"")
    fails(f"{broken}: corrupt image (", class_folder)
    fails("on_corrupt must be 'error' or 'skip', not 'ignore'", class_folder, on_corrupt="ignore")


def test_corrupt_images_are_skipped_and_counted(class_folder, caplog):
    write(class_folder / "cat" / "3.jpg", pixels(3))
    for name in ("cat/1.png", "cat/3.jpg"):
        file = class_folder / name
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    source = FolderSource(class_folder, on_corrupt="skip")
    assert [file for file, _ in source.skipped] == ["cat/1.png", "cat/3.jpg"]
    assert len(source) == 5 and [e.label for e in source.entries] == [0, 0, 1, 1, 1]
    assert f"{class_folder}: skipped 2 of 7 images, corrupt: cat/1.png, cat/3.jpg" in caplog.text
    for file in class_folder.rglob("*.png"):
        file.write_text("?")
    fails(f"{class_folder}: all 7 images are corrupt", class_folder, on_corrupt="skip")


def test_metadata_faults_name_the_line(tmp_path):
    good = [{"file_name": f"{i}.png", "caption": "x"} for i in range(3)]
    table = tmp_path / "metadata.jsonl"
    captioned(tmp_path, [*good, {"file_name": "9.png", "caption": "x"}])
    fails(f"{table}, line 4: names 9.png, which is not in {tmp_path}", tmp_path)
    captioned(tmp_path, [*good, good[1]])
    fails(f"{table}, line 4: 1.png is listed twice, first in {table}, line 2", tmp_path)
    captioned(tmp_path, [{"caption": "x"}])
    fails(f"{table}, line 1: no file_name", tmp_path)
    captioned(tmp_path, [good[0], {"file_name": "1.png"}])
    fails(f"{table}, line 2: 1.png has no caption, others have", tmp_path)
    captioned(tmp_path, [{"file_name": "1.png", "caption": 3}])
    fails(f"{table}, line 1: caption must be a string or a list of strings", tmp_path)
    captioned(tmp_path, [{"file_name": "1.png", "label": 0.5}])
    fails(f"{table}, line 1: label 0.5 is neither a whole number nor a name", tmp_path)
    table.write_text('{"file_name": "0.png"}\n{oops\n')
    fails(f"{table}, line 2: not JSON", tmp_path)
    table.write_text("")
    fails(f"{table}: lists no images", tmp_path)
    (tmp_path / "captions.csv").write_text("file_name\n")
    fails(f"{tmp_path}: has both metadata.jsonl and captions.csv", tmp_path)


def test_two_images_of_one_caption_file(tmp_path):
    write(tmp_path / "a.jpg", pixels(0))
    write(tmp_path / "a.png", pixels(1))
    (tmp_path / "a.txt").write_text("which?")
    fails(f"{tmp_path}/a.txt: captions both a.jpg and a.png", tmp_path)


def test_a_label_outside_the_classes(tmp_path):
    captioned(tmp_path, [{"file_name": f"{i}.png", "label": 4 * i} for i in range(3)])
    assert FolderSource(tmp_path).info.num_classes == 9
    message = f"{tmp_path}: record 1 has label 4, outside [0, 3)"
    fails(message, tmp_path, num_classes=3)
    captioned(tmp_path, [{"file_name": f"{i}.png", "label": -1} for i in range(3)])
    fails(f"{tmp_path}: record 0 has label -1, outside", tmp_path)


def test_splits_are_folders(class_folder):
    (class_folder.parent / "sets").mkdir()
    root = class_folder.rename(class_folder.parent / "sets" / "train").parent
    assert len(FolderSource(root, split="train")) == 6
    fails(f"{root}: no split 'valid' (folders there: train)", root, split="valid")


def test_fingerprint_follows_the_contents(class_folder):
    first = FolderSource(class_folder).info.fingerprint
    assert FolderSource(class_folder).info.fingerprint == first
    assert FolderSource(class_folder, size=8).info.fingerprint != first
    write(class_folder / "cat" / "0.png", pixels(99))
    assert FolderSource(class_folder).info.fingerprint != first
