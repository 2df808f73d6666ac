"""The record of a run: one line a write, torn tails dropped, later steps cut at a resume."""

import io
import json
import subprocess
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

from diffjax.train.events import EventFile, crc32c
from diffjax.train.progress import Progress, duration
from diffjax.train.writer import Writer, read_records, read_text, replace_file


@dataclass
class Value:
    name: str
    value: float
    std: float | None = None
    protocol: dict = field(default_factory=dict)


@dataclass
class Plate:
    name: str
    image: np.ndarray
    caption: str = ""


def picture(level: int) -> np.ndarray:
    return np.full((4, 6, 3), level, np.uint8)


def train(writer: Writer, steps: range) -> None:
    """A stand-in for a run: a metric each step, an evaluation every second one."""
    for step in steps:
        writer.scalars(step, {"images": step * 8, "train/loss": np.float32(1 / step)})
        if step % 2 == 0:
            results = [Value("frechet", 10.0 / step, 0.5, {"n": 8}), Plate("grid", picture(step))]
            writer.evaluation(step, "generation", "slow", results)


def record(workdir) -> dict[str, bytes]:
    return {
        str(path.relative_to(workdir)): path.read_bytes()
        for path in sorted(workdir.rglob("*"))
        if path.is_file() and "tensorboard" not in path.parts
    }


@pytest.mark.parametrize("checkpoint", [1, 4, 5])
def test_a_killed_and_resumed_run_leaves_the_record_of_an_uninterrupted_one(tmp_path, checkpoint):
    with Writer(tmp_path / "whole") as writer:
        train(writer, range(1, 9))
    with Writer(tmp_path / "killed") as writer:
        train(writer, range(1, 7))
    with open(tmp_path / "killed" / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 7, "train/lo')  # the kill came in the middle of a line
    with Writer(tmp_path / "killed") as writer:
        last = writer.truncate(checkpoint)
        train(writer, range(checkpoint + 1, 9))
    assert last is not None and last["step"] == checkpoint
    assert record(tmp_path / "killed") == record(tmp_path / "whole")


def test_a_torn_tail_is_dropped_on_opening_and_never_joined(tmp_path):
    path = tmp_path / "evals.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2, "na')
    assert read_records(path) == [{"step": 1}]
    Writer(tmp_path).evaluation(3, "e", None, [Value("v", 1.0)])
    assert [r["step"] for r in read_records(path)] == [1, 3]


def test_a_broken_line_inside_names_itself(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl:2"):
        read_records(path)


def test_every_line_is_strict_json_even_when_training_diverges(tmp_path):
    writer = Writer(tmp_path)
    writer.scalars(1, {"train/loss": float("nan"), "train/grad_norm": np.float32("inf")})
    line = (tmp_path / "metrics.jsonl").read_text()

    def refuse(constant):
        raise AssertionError(constant)

    assert json.loads(line, parse_constant=refuse)["train/loss"] is None


def test_a_vector_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="train/loss"):
        Writer(tmp_path).scalars(1, {"train/loss": np.ones(3)})


def test_pictures_carry_their_caption_and_emas_do_not_overwrite_each_other(tmp_path):
    writer = Writer(tmp_path)
    writer.evaluation(7, "samples", "slow", [Plate("grid", picture(10), "ten é")])
    writer.evaluation(7, "samples", "fast", [Plate("grid", picture(20), "twenty")])
    paths = sorted((tmp_path / "figures" / "samples").iterdir())
    assert [p.name for p in paths] == ["00000007_grid.png", "00000007_grid_fast.png"]
    assert [read_text(p)["caption"] for p in paths] == ["ten é", "twenty"]
    assert [np.asarray(Image.open(p))[0, 0, 0] for p in paths] == [10, 20]


def test_an_inactive_writer_leaves_nothing_yet_returns_the_values(tmp_path):
    writer = Writer(tmp_path / "none", active=False)
    writer.scalars(1, {"train/loss": 1.0})
    values = writer.evaluation(1, "e", None, [Value("v", 2.0), Plate("p", picture(1))])
    assert values == {"v": 2.0} and writer.truncate(0) is None
    assert not (tmp_path / "none").exists()


def test_a_failed_replacement_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_crc32c_agrees_with_the_published_vectors():
    # RFC 3720, B.4: 32 bytes of zeroes, of ones, and the ascending bytes.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


def read_payloads(path) -> list[bytes]:
    data, payloads = path.read_bytes(), []
    while data:
        size = int.from_bytes(data[:8], "little")
        payloads.append(data[12 : 12 + size])
        data = data[12 + size + 4 :]
    return payloads


def read_events(path):
    """Events of one file through the protocol buffers of an independent implementation."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    return [event_pb2.Event.FromString(payload) for payload in read_payloads(path)]


def test_tensorboard_events_parse_and_a_resume_purges_later_steps(tmp_path):
    writer = Writer(tmp_path)
    writer.truncate(4)
    train(writer, range(5, 7))
    writer.close()
    (path,) = (tmp_path / "tensorboard").iterdir()
    first, session, *rest = read_events(path)
    assert first.file_version == "brain.Event:2"
    assert (session.step, session.session_log.status) == (5, 1)
    tags = {v.tag: (e.step, v) for e in rest for v in e.summary.value}
    assert tags["generation/frechet/slow"][0] == 6
    assert tags["train/loss"][1].simple_value == pytest.approx(1 / 6)
    image = tags["generation/grid/slow"][1].image
    assert (image.height, image.width) == (4, 6)
    assert np.asarray(Image.open(io.BytesIO(image.encoded_image_string)))[0, 0, 0] == 6


def test_framing_agrees_with_an_independent_writer(tmp_path):
    record_writer = pytest.importorskip("tensorboardX.record_writer")
    ours = EventFile(tmp_path)
    ours.scalars(3, {"a": 1.5})
    ours.close()
    (path,) = tmp_path.glob("events*")
    theirs = record_writer.RecordWriter(str(tmp_path / "theirs"))
    for payload in read_payloads(path):
        theirs.write(payload)
    theirs.close()
    assert (tmp_path / "theirs").read_bytes() == path.read_bytes()


def test_writing_imports_neither_torch_nor_tensorflow():
    code = (
        "import sys, diffjax.train.writer, diffjax.train.progress;"
        "print([m for m in ('torch', 'tensorflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run_progress(stream: io.StringIO) -> str:
    times = iter([0.0, 100.0, 110.0, 120.0])  # compiling takes 100 s, then 10 s a 100 steps
    with Progress(1000, stream=stream, clock=lambda: next(times)) as progress:
        progress.update(100, {"train/loss": 1.0})
        progress.update(200)
        progress.update(300, {"train/loss": 0.5, "train/images_per_second": 12345.6})
        progress.note("saved [step 300]")
    return stream.getvalue()


def test_plain_lines_where_there_is_no_terminal():
    assert run_progress(io.StringIO()).splitlines() == [
        "step   100/1,000  loss 1.0000",
        "step   300/1,000  loss 0.5000  12,346 images/s  1:10 left",
        "saved [step 300]",
    ]


def test_a_bar_on_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    text = run_progress(Terminal())
    assert "loss 0.5000  12,346 images/s  1:10 left" in text and "━" in text
    assert "saved [step 300]" in text


def test_durations():
    assert [duration(s) for s in (5, 75, 3700)] == ["0:05", "1:15", "1:01:40"]
