"""The record of a run: JSON lines, figures and TensorBoard events, cut clean at a resume.

`metrics.jsonl` has one object per log interval, `evals.jsonl` one per measured value, and
`figures/<eval>/<step>_<name>.png` one picture each, its caption inside the file. A value that is
not finite is written as null, so that every line is JSON to every reader.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from diffjax.train.events import EventFile

_FIGURE = re.compile(r"(\d{8,})_.*\.png")
# What the fields of a record are, where it has them.
_KINDS: dict[str, Any] = {
    "seconds": int | float,
    "eval": str,
    "name": str,
    "ema": str | None,
    "value": int | float | None,
    "std": int | float | None,
    "protocol": dict | None,
}


def read_records(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file, [] where it is absent; a torn last line is left out.

    Raises:
      ValueError: a line other than the last is not a JSON object with a `step`, a whole number, and
        texts for `eval` and `name` where it has them (the message names the line).
    """
    path = Path(path)
    if not path.exists():
        return []
    *lines, torn = path.read_bytes().split(b"\n")
    del torn  # what follows the last newline: empty, or cut off by a kill
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(_record(line))
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{path}:{number} is not a record of a run ({' '.join(str(error).split())}): "
                "remove the line"
            ) from error
    return records


def _record(line: bytes) -> dict[str, Any]:
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError(f"it is a {type(record).__name__}, not an object")
    if type(record.get("step")) is not int:
        raise ValueError(f"its step is {record.get('step')!r}, not a whole number")
    for key, kinds in _KINDS.items():
        if key in record and not isinstance(record[key], kinds):
            raise ValueError(f"its {key} is {record[key]!r:.80}")
    return record


def replace_file(path: Path, data: bytes) -> None:
    """Puts `data` at `path` whole or not at all: a kill or a full disk leaves the old file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def plain(value: Any) -> Any:
    """`value` as JSON holds it: numpy and jax scalars as numbers, not-finite ones as None."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if hasattr(value, "tolist"):  # numpy, jax
        return plain(np.asarray(value).tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


def _number(name: str, value: Any) -> float | int:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        if array.dtype.name != "bfloat16" or array.size != 1:  # numpy calls bfloat16 kind "V"
            raise ValueError(
                f"{name} is {array.dtype}{list(array.shape)}: the writer takes one number a name"
            )
        array = array.astype(np.float32)
    return array.reshape(()).item()


class Writer:
    """Appends to the record in `workdir`; every write is flushed before the call returns.

    In a run of several processes one of them is `active`; the others' calls do nothing.
    """

    def __init__(self, workdir: str | os.PathLike[str], active: bool = True):
        self.workdir = Path(workdir)
        self.active = active
        self._resume_at: int | None = None
        self._events: EventFile | None = None
        if active:
            self.workdir.mkdir(parents=True, exist_ok=True)
            for path in (self.metrics_path, self.evals_path, self._evaluated_path):
                _drop_torn_line(path)

    @property
    def metrics_path(self) -> Path:
        return self.workdir / "metrics.jsonl"

    @property
    def evals_path(self) -> Path:
        return self.workdir / "evals.jsonl"

    @property
    def _evaluated_path(self) -> Path:
        return self.workdir / "evaluated.jsonl"

    def truncate(self, step: int) -> dict[str, Any] | None:
        """Forgets what was recorded after `step`, the step of the checkpoint resumed from, and
        the evaluations of that step that were cut off.

        Returns:
          The last record left in `metrics.jsonl` (its `seconds` continues the clock), or None.
        """
        kept = []
        if self.active:
            done = self.evaluated(step)
            for path in (self._evaluated_path, self.evals_path, self.metrics_path):
                records = read_records(path)
                kept = [record for record in records if record["step"] <= step]
                if path == self.evals_path:
                    kept = [r for r in kept if r["step"] < step or r.get("eval") in done]
                if len(kept) < len(records):
                    lines = "".join(json.dumps(record) + "\n" for record in kept)
                    replace_file(path, lines.encode())
            for path in (self.workdir / "figures").glob("*/*.png"):
                match = _FIGURE.fullmatch(path.name)
                if match and int(match[1]) > step:
                    path.unlink()
            self._resume_at = step + 1
        return kept[-1] if kept else None

    def evaluated(self, step: int) -> set[str]:
        """Names of the evaluations of `step` that were written to their end."""
        return {r.get("eval", "") for r in read_records(self._evaluated_path) if r["step"] == step}

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """One line of `metrics.jsonl`: `values` name -> number (Python, numpy or jax)."""
        if not self.active:
            return
        numbers = {name: _number(name, value) for name, value in values.items()}
        self._append(self.metrics_path, {"step": int(step), **numbers})
        self._event_file().scalars(int(step), {k: float(v) for k, v in numbers.items()})

    def evaluation(
        self, step: int, eval_name: str, ema: str | None, records: Iterable[Any]
    ) -> dict[str, float]:
        """Writes what an evaluator yields, each record as it comes.

        Args:
          step: the step of the evaluated weights.
          eval_name: the evaluator's name in the config.
          ema: which average of the weights; None for the trained weights themselves.
          records: objects with (name, image [H, W, 3] uint8, caption) or (name, value, std,
            protocol).

        Returns:
          The measured values, name -> value.
        """
        values: dict[str, float] = {}
        for record in records:
            if hasattr(record, "image"):
                self._picture(int(step), eval_name, ema, record)
                continue
            values[record.name] = float(_number(record.name, record.value))
            if not self.active:
                continue
            std = None if record.std is None else _number(record.name, record.std)
            line = {"step": int(step), "eval": eval_name, "ema": ema, "name": record.name}
            line |= {"value": values[record.name], "std": std, "protocol": dict(record.protocol)}
            self._append(self.evals_path, line)
            tag = "/".join(part for part in (eval_name, record.name, ema) if part)
            self._event_file().scalars(int(step), {tag: values[record.name]})
        if self.active:
            self._append(self._evaluated_path, {"step": int(step), "eval": eval_name})
        return values

    def _picture(self, step: int, eval_name: str, ema: str | None, record: Any) -> None:
        if not self.active:
            return
        folder = self.workdir / "figures" / eval_name
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"{step:08d}_{record.name.replace('/', '-')}"
        path = folder / f"{stem}.png"
        if path.exists() and read_text(path).get("ema", "") != (ema or ""):
            path = folder / f"{stem}_{ema or 'raw'}.png"
        text = {"caption": record.caption, "ema": ema or "", "name": record.name}
        png = encode_png(record.image, text)
        replace_file(path, png)
        height, width = record.image.shape[:2]
        tag = "/".join(part for part in (eval_name, record.name, ema) if part)
        self._event_file().image(step, tag, png, height, width)

    def _append(self, path: Path, record: Mapping[str, Any]) -> None:
        with open(path, "ab") as file:
            file.write((json.dumps(plain(record)) + "\n").encode())

    def _event_file(self) -> EventFile:
        if self._events is None:
            self._events = EventFile(self.workdir / "tensorboard", self._resume_at)
        return self._events

    def close(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def encode_png(image: np.ndarray, text: Mapping[str, str]) -> bytes:
    """`image [H, W, 3] or [H, W] uint8` as PNG bytes that carry `text`."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise ValueError(f"a picture is [H, W, 3] uint8, not {image.dtype}{list(image.shape)}")
    info = PngInfo()
    for key, value in text.items():
        info.add_itxt(key, value)
    out = io.BytesIO()
    Image.fromarray(image).save(out, format="png", pnginfo=info)
    return out.getvalue()


def read_text(path: str | os.PathLike[str]) -> dict[str, str]:
    """The texts that a PNG file carries (`caption`, `ema`, `name`)."""
    with Image.open(path) as image:
        return {str(k): str(v) for k, v in image.info.items() if isinstance(v, str)}


def _drop_torn_line(path: Path) -> None:
    """Cuts what follows the last newline, so that the next line does not run into it."""
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        replace_file(path, data[:whole])
