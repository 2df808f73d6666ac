"""Class folders: what would change labels is an error, what is not read is said, links lead on."""

import os

import numpy as np
import pytest

from diffjax.data.arrays import ArraySource
from diffjax.data.folder import FolderSource
from diffjax.data.folder_files import list_folder
from diffjax.data.schema import check_same_classes
from tests.data.pictures import pixels, write


def fails(message, path, **options):
    with pytest.raises(ValueError) as error:
        FolderSource(path, **options)
    assert message in str(error.value), str(error.value)
    assert "\n" not in str(error.value)


def classes(path, **options):
    """(names, label of each file) of a folder."""
    source = FolderSource(path, **options)
    return source.info.class_names, {e.file: e.label for e in source.entries}


def test_a_stray_image_is_an_error_that_names_it(class_folder):
    write(class_folder / "grid.png", pixels(0))
    fails(f"{class_folder}/grid.png: an image beside folders of images (cat, dog)", class_folder)
    source = FolderSource(class_folder, labels=False)
    assert len(source) == 7 and source.info.num_classes == 0 and set(source[0]) == {"image"}


def test_folders_without_images_are_no_classes(class_folder, caplog):
    wanted = classes(class_folder)
    for name in ("annotations", "__MACOSX/cat", ".ipynb_checkpoints", "a_new_class", "@eaDir"):
        (class_folder / name).mkdir(parents=True)
    write(class_folder / ".ipynb_checkpoints" / "0.png", pixels(5))
    write(class_folder / "@eaDir" / "0.png", pixels(5))
    (class_folder / "__MACOSX" / "cat" / "._0.png").write_bytes(b"\0\5\x16\7")
    (class_folder / "cat" / "._0.png").write_bytes(b"\0\5\x16\7")
    (class_folder / "annotations" / "boxes.xml").write_text("<a/>")
    assert classes(class_folder) == wanted
    assert "left out folders without images: a_new_class, annotations" in caplog.text
    assert "left out 1 .xml, 4 hidden" in caplog.text


def test_links_to_folders_and_files_are_followed(class_folder, tmp_path):
    away = class_folder.rename(tmp_path / "away")
    (tmp_path / "pets").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).symlink_to(away / name)
    (away / "dog" / "linked.png").symlink_to(away / "cat" / "0.png")
    names, labels = classes(tmp_path / "pets")
    assert names == ("cat", "dog") and labels["dog/linked.png"] == 1 and len(labels) == 7


@pytest.mark.parametrize("target", ["..", ".", "../..", "/"])
def test_loops_are_found_at_once(class_folder, target):
    (class_folder / "cat" / "again").symlink_to(target)
    fails(f"{class_folder}/cat/again: a loop: it links to", class_folder)


def test_links_that_lead_to_each_other_or_to_nothing(class_folder, tmp_path):
    (class_folder / "cat" / "b").symlink_to(tmp_path / "b")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a").symlink_to(class_folder / "cat")
    fails("the same folder as", class_folder)
    (tmp_path / "b" / "a").unlink()
    (class_folder / "cat" / "self").symlink_to("self")
    assert len(FolderSource(class_folder)) == 6
    (class_folder / "owl").symlink_to(tmp_path / "gone")
    fails(f"{class_folder}/owl: a link to nothing, which may stand for a class", class_folder)


def test_a_folder_is_one_class(class_folder):
    (class_folder / "feline").symlink_to("cat")
    fails(f"{class_folder}/feline: is the same folder as {class_folder}/cat", class_folder)


def test_splits_are_no_classes(class_folder, tmp_path):
    root = tmp_path / "sets"
    root.mkdir()
    class_folder.rename(root / "train")
    write(root / "test" / "cat" / "0.png", pixels(0))
    fails(f"{root}: its folders test, train are splits, not classes; set split=", root)
    assert len(FolderSource(root, labels=False)) == 7
    fails("split '../pets' leaves the folder", root, split="../pets")


def test_a_split_that_lacks_a_class_keeps_the_labels_of_the_others(class_folder, tmp_path):
    write(tmp_path / "test" / "dog" / "0.png", pixels(0))
    train, test = FolderSource(class_folder), FolderSource(tmp_path / "test")
    with pytest.raises(ValueError, match=r"differ in their classes: cat; set class_names"):
        check_same_classes(train.info, test.info)
    names = ("cat", "dog")
    same = FolderSource(tmp_path / "test", class_names=names)
    assert same.entries[0].label == 1 and same.info.num_classes == 2
    check_same_classes(train.info, same.info)
    check_same_classes(train.info, ArraySource(np.zeros((1, 2, 2, 3), np.uint8)).info)
    fails("class_names holds a name twice: cat, cat", class_folder, class_names=("cat", "cat"))
    fails("did you mean 'cats'? (options: cats, dogs)", class_folder, class_names=("cats", "dogs"))


def test_names_that_systems_write_in_two_ways(tmp_path):
    decomposed, composed = "e\u0301te\u0301", "\u00e9t\u00e9"
    write(tmp_path / "a" / decomposed / "0.png", pixels(0))
    write(tmp_path / "a" / "hiver" / "0.png", pixels(1))
    # As on a system that composes: "hiver" comes before a letter with an accent.
    assert classes(tmp_path / "a")[0] == ("hiver", composed)
    write(tmp_path / "a" / composed / "0.png", pixels(2))
    fails("differ only in how Unicode writes it", tmp_path / "a")
    for name in "aAbB":  # Letters of two cases are classes of their own.
        write(tmp_path / "letters" / name / "0.png", pixels(0))
    assert classes(tmp_path / "letters")[0] == ("A", "B", "a", "b")


def test_names_that_are_not_utf8(tmp_path):
    folder = os.fsencode(tmp_path / "a")
    write(tmp_path / "a" / "cat" / "0.png", pixels(0))
    os.rename(folder + b"/cat/0.png", folder + b"/cat/caf\xe9.png")
    assert len(FolderSource(tmp_path / "a")) == 1
    os.rename(folder + b"/cat", folder + b"/caf\xe9")
    fails("caf\\udce9: its name is not UTF-8", tmp_path / "a")


def test_a_folder_that_may_not_be_listed(class_folder, monkeypatch):
    before = os.scandir

    def scandir(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return before(path)

    monkeypatch.setattr(os, "scandir", scandir)
    fails(f"{class_folder}/dog: cannot be listed (Permission denied)", class_folder)


def test_the_order_of_files_is_that_of_their_folders(tmp_path):
    for name in ("a b.png", "a/b.png", "a/c/d.png", "B.png"):
        write(tmp_path / name, pixels(0))
    assert list_folder(tmp_path).images == ["B.png", "a/b.png", "a/c/d.png", "a b.png"]
