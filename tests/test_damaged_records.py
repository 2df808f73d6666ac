"""What a run has written of itself and is damaged: one line that names the file."""

import json
import math

import pytest

from diffjax.reports.run import write_report
from diffjax.runs.config import read_config
from diffjax.runs.records import read_json, read_run
from diffjax.train.writer import Writer, read_records

GOOD = b'{"step": 4, "eval": "a", "name": "b", "value": 1.0, "std": null, "protocol": {}}\n'
LINES = {
    "no JSON": b"{\n",
    "binary": b"\x00\xff\xfe\n",
    "a list": b"[1]\n",
    "a number": b"7\n",
    "null": b"null\n",
    "an empty line": b"\n",
    "no step": b'{"eval": "a", "name": "b"}\n',
    "step a string": b'{"step": "4", "eval": "a", "name": "b"}\n',
    "step a fraction": b'{"step": 4.5, "eval": "a", "name": "b"}\n',
    "step true": b'{"step": true, "eval": "a", "name": "b"}\n',
    "eval a list": b'{"step": 4, "eval": [], "name": "b"}\n',
    "value a string": b'{"step": 4, "eval": "a", "name": "b", "value": "x"}\n',
    "deep": b"[" * 100_000 + b"\n",
}
OBJECTS = {
    "half": b'{"train": {"steps"',
    "empty": b"",
    "binary": b"\x00\xff\xfe",
    "a list": b"[1]",
    "null": b"null",
    "a string": b'"config"',
    "deep": b"[" * 100_000,
}


def said(error) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 600
    return text


@pytest.mark.parametrize("file", ["metrics.jsonl", "evals.jsonl", "evaluated.jsonl"])
@pytest.mark.parametrize("kind", LINES)
def test_a_damaged_line_is_named(tmp_path, file, kind):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / file).write_bytes(GOOD + LINES[kind] + GOOD)
    with pytest.raises(ValueError, match="remove the line") as error:
        Writer(tmp_path).truncate(4)
    assert said(error).startswith(f"{tmp_path / file}:2 ")
    if file != "evaluated.jsonl":  # The report reads the others.
        with pytest.raises(ValueError, match="remove the line") as error:
            read_run(tmp_path)
        assert f"{tmp_path / file}:2 " in said(error)


@pytest.mark.parametrize("missing", ["eval", "name"])
def test_a_measure_without_its_name_is_an_error_of_the_report(tmp_path, missing):
    (tmp_path / "config.json").write_text("{}")
    record = {k: v for k, v in json.loads(GOOD).items() if k != missing}
    (tmp_path / "evals.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(ValueError, match=r"evals\.jsonl has a line of step 4 without") as error:
        read_run(tmp_path)
    said(error)
    Writer(tmp_path).truncate(4)


def test_what_was_not_finite_is_nan_and_shown_as_a_dash(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    record = {**json.loads(GOOD), "value": None}
    (tmp_path / "evals.jsonl").write_text(json.dumps(record) + "\n")
    (found,) = read_run(tmp_path).results
    assert math.isnan(found.value) and (found.name, found.eval, found.step) == ("b", "a", 4)
    page = write_report(tmp_path).read_text()
    assert "<b>–</b>" in page and ">nan<" not in page


def test_a_good_record_is_read_and_a_torn_end_left_out(tmp_path):
    (tmp_path / "evals.jsonl").write_bytes(GOOD + GOOD[:20])
    assert read_records(tmp_path / "evals.jsonl") == [json.loads(GOOD)]


@pytest.mark.parametrize("kind", OBJECTS)
def test_a_damaged_object_is_named(tmp_path, kind):
    (tmp_path / "config.json").write_bytes(OBJECTS[kind])
    for read in (read_config, read_run, lambda folder: read_json(folder / "config.json")):
        with pytest.raises(ValueError, match=r"config\.json") as error:
            read(tmp_path)
        said(error)
