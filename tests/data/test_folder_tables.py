"""Tables and texts of captions: read strictly, every fault by its file and line."""

import csv
import json

import pytest

from diffjax.data.folder import FolderSource
from tests.data.pictures import pixels, write


@pytest.fixture
def folder(tmp_path):
    """Two images, and a file outside."""
    for name in ("0.png", "1.png"):
        write(tmp_path / "set" / name, pixels(0, 4, 4))
    write(tmp_path / "secret.png", pixels(1, 4, 4))
    return tmp_path / "set"


def captions(folder):
    return [caption for _, caption in FolderSource(folder).read_captions()]


def fails(folder, message, **options):
    with pytest.raises(ValueError) as error:
        FolderSource(folder, **options)
    assert message in str(error.value), str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


CSV_FAULTS = {
    "file_name,caption\n0.png,a\n1.png,b,c\n": "line 3: has 3 fields, but the header names 2",
    "file_name,caption\n0.png,a\n1.png\n": "line 3: has 1 fields, but the header names 2",
    'file_name,caption\n0.png,"a\n1.png,b\n': "line 2: no CSV (a double quote is not closed)",
    'file_name,caption\n0.png,"a"b\n1.png,b\n': "line 2: no CSV (',' expected after '\"')",
    'file_name,caption\n0.png,"a\n\nb"\n1.png,b,c\n': "line 5: has 3 fields",
    "file_name,captoin\n0.png,a\n": "line 1: unknown column 'captoin'",
    "file_name;caption\n0.png;a\n": "unknown column 'file_name;caption'; columns are parted by",
    ",file_name,caption\n0,0.png,a\n": "line 1: unknown column ''",
    "file,caption\n0.png,a\n": "line 1: unknown column 'file'",
    "file_name\n0.png\n": "line 1: no column caption, text or label",
    "caption,label\na,1\n": "line 1: no column file_name",
    "file_name,caption,Caption\n0.png,a,b\n": "line 1: names 'caption' twice",
    "file_name,caption,text\n0.png,a,b\n": "line 1: has both caption and text",
    "file_name,caption\n0.png,a\n1.png,\n": "line 3: 1.png has no caption, others have",
    "file_name,caption\n0.png,\n1.png,\n": "line 2: neither caption nor label",
    "file_name,caption\n,a\n": "line 2: no file_name",
    f"file_name,label\n0.png,{'9' * 5000}\n1.png,2\n": f"line 2: label {'9' * 80} is larger than",
    "file_name,label\n0.png,99999999999\n1.png,2\n": "line 2: label 99999999999 is larger than",
    "": "lists no images",
}


@pytest.mark.parametrize("text, message", CSV_FAULTS.items(), ids=CSV_FAULTS.values())
def test_faults_of_csv_name_the_line(folder, text, message):
    (folder / "captions.csv").write_text(text)
    fails(folder, message)
    fails(folder, f"{folder}/captions.csv")


def line(**values):
    return json.dumps({"file_name": "0.png", "caption": "a", **values})


JSON_FAULTS = {
    line(label=1).replace("1}", "1" * 5000 + "}"): "line 2: not JSON (a number of 5000 digits)",
    line(label=float("nan")): "line 2: not JSON (NaN is no number of JSON)",
    line(label=10**20): f"line 2: label {10**20} is larger than any number of classes",
    line(label=True): "line 2: label True is neither a whole number nor a name",
    line(label="  "): "line 2: label '  ' is neither a whole number nor a name",
    line(caption=[]): "line 2: caption must be a string or a list of strings",
    line(caption=["a", None]): "line 2: caption must be a string or a list of strings",
    line(caption={"en": "a"}): "line 2: caption must be a string or a list of strings",
    '{"file_name": "0.png", "caption": "\\ud800"}': "line 2: the caption holds half of a surr",
    line(Caption="b"): "line 2: names 'caption' twice",
    line(text="b"): "line 2: has both caption and text",
    '{"file_name": "0.png", "caption": "a", "caption": "b"}': "an object names 'caption' twice",
    "[" * 200_000: "line 2: not JSON",
    "[1]": "line 2: not an object",
    "3": "line 2: not an object",
    line(file_name=3): "line 2: no file_name",
    line(file_name="0\0.png"): "line 2: names 0\\x00.png, which is not in",
    line(file_name="x" * 5000)[:5100]: "which is not in",
    line(file_name="\ud83d.png"): "which is not in",
    line(file_name="."): "line 2: names ., which is not in",
    line(file_name="./1.png"): "line 2: 1.png is listed twice",
    line(file_name="../secret.png"): "line 2: names ../secret.png, a path that leaves the folder",
    line(file_name="a/../../secret.png"): "a path that leaves the folder",
    line(file_name="/etc/hostname"): "a path that leaves the folder",
    line(file_name="..\\secret.png"): "a path that leaves the folder",
    line(file_name="C:\\secret.png"): "a path that leaves the folder",
}


@pytest.mark.parametrize("text, message", JSON_FAULTS.items(), ids=JSON_FAULTS.values())
def test_faults_of_jsonl_name_the_line(folder, text, message):
    (folder / "metadata.jsonl").write_text(line(file_name="1.png") + "\n" + text + "\n")
    if "x" * 5000 in text:
        with pytest.raises(ValueError, match=message):
            FolderSource(folder)
        return
    fails(folder, message)
    fails(folder, f"{folder}/metadata.jsonl, line 2")


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("name", ["captions.csv", "metadata.csv", "Metadata.CSV"])
def test_csv_as_others_write_it(folder, name, mark):
    rows = '1.png, "a ""cat"", there"\r\n\r\n0.png,"two\r\nlines"\r\n'
    (folder / name).write_bytes(f"{mark} File_Name ,CAPTION\r\n{rows}".encode())
    assert captions(folder) == ["two\r\nlines", 'a "cat", there']
    (folder / name).write_text("file_name,Text,label\n0.png,a, cat\n1.png,b,dog \n")
    source = FolderSource(folder)
    assert source.info.class_names == ("cat", "dog") and captions(folder) == ["a", "b"]


def test_a_byte_order_mark_in_jsonl_and_txt(folder):
    lines = [line(), line(file_name="1.png", caption="two\u2028lines")]
    (folder / "metadata.jsonl").write_text("\ufeff" + "\n".join(lines))
    assert captions(folder) == ["a", "two\u2028lines"]
    (folder / "metadata.jsonl").unlink()
    (folder / "0.txt").write_text("\ufeffé\n")
    (folder / "1.TXT").write_text("b")
    assert captions(folder) == ["é", "b"]
    (folder / "1.txt").write_text("c")
    fails(folder, "1.txt: there is 1.TXT too; keep one")


@pytest.mark.parametrize("name", ["captions.csv", "metadata.jsonl", "0.txt"])
@pytest.mark.parametrize(
    "encoding, said",
    [
        ("utf-16", "UTF-16"), ("utf-16-be", "UTF-16 without its mark"), ("utf-32", "UTF-32"),
        ("latin-1", "byte 0xE9; Latin-1 or Windows-1252, perhaps"),
    ],
)  # fmt: skip
def test_other_encodings_are_named_with_the_file(folder, name, encoding, said):
    (folder / "1.txt").write_text("b")
    (folder / name).write_bytes("file_name,caption\n0.png,é\n".encode(encoding))
    fails(folder, f"{folder}/{name}")
    fails(folder, said)
    fails(folder, "save it as UTF-8")


def test_a_field_may_be_long_and_the_limit_of_others_stays(folder):
    before, long = csv.field_size_limit(), "word " * 60_000
    (folder / "captions.csv").write_text(f'file_name,caption\n0.png,"{long}"\n1.png,b\n')
    assert captions(folder) == [long, "b"] and csv.field_size_limit() == before


def test_two_tables_and_tables_that_are_not_read(folder):
    (folder / "metadata.jsonl").write_text(line())
    (folder / "metadata.csv").write_text("file_name,caption\n0.png,a\n")
    fails(folder, f"{folder}: has both metadata.jsonl and metadata.csv; keep one")
    (folder / "metadata.csv").unlink()
    (folder / "metadata.parquet").write_bytes(b"PAR1")
    fails(folder, f"{folder}/metadata.parquet: a table of this kind is not read")
    (folder / "metadata.parquet").unlink()
    (folder / "part").mkdir()
    (folder / "metadata.jsonl").rename(folder / "part" / "metadata.jsonl")
    fails(folder, f"{folder}/part/metadata.jsonl: a table in a folder below is not read")
    assert len(FolderSource(folder, labels=False)) == 2


def test_a_link_in_a_table_stays_in_the_folder(folder):
    table = folder / "metadata.jsonl"
    (folder / "out.png").symlink_to("../secret.png")
    table.write_text(line(file_name="out.png"))
    fails(folder, f"{table}, line 1: names out.png, which a link leads out of {folder}")
    (folder / "up").symlink_to("..")
    (folder / "out.png").unlink()
    fails(folder, f"{folder}/up: a loop")
    (folder / "up").unlink()
    (folder.parent / "other").mkdir()
    (folder.parent / "secret.png").rename(folder.parent / "other" / "2.png")
    (folder / "in").symlink_to("../other")
    table.write_text(line(file_name="in/2.png"))
    fails(folder, "line 1: names in/2.png, which a link leads out of")
    (folder / "in").unlink()
    (folder / "in.png").symlink_to("0.png")
    table.write_text(line(file_name="in.png"))
    assert captions(folder) == ["a"]


def test_what_a_table_leaves_out_is_said(folder, caplog):
    write(folder / "cat" / "2.png", pixels(2, 4, 4))
    (folder / "notes.txt").write_text("?")
    (folder / "metadata.jsonl").write_text(line(width=3, Höhe=4, file_name="cat/2.png"))
    assert captions(folder) == ["a"]
    assert "left out 2 images that metadata.jsonl does not list" in caplog.text
    assert "not read in metadata.jsonl: Höhe, width" in caplog.text
    assert "left out 1 .txt" in caplog.text
    assert "folders are no classes, since there is metadata.jsonl" in caplog.text


def test_a_file_name_may_be_composed_otherwise_than_on_disk(folder):
    write(folder / "cafe\u0301.png", pixels(2, 4, 4))
    (folder / "metadata.jsonl").write_text(line(file_name="caf\u00e9.png"))
    assert captions(folder) == ["a"]
