"""TensorBoard event files, written directly.

The format is small (a framed protocol buffer with four kinds of field), and writing it here keeps
the train loop free of TensorFlow, of PyTorch (which `tensorboardX` imports when it is installed)
and of writer threads, which do not survive the forks of data workers and hide a full disk.
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

_CASTAGNOLI = 0x82F63B78  # reversed polynomial of CRC-32C
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protocol-buffer wire types


def _table() -> tuple[int, ...]:
    def entry(byte: int) -> int:
        for _ in range(8):
            byte = (byte >> 1) ^ (_CASTAGNOLI if byte & 1 else 0)
        return byte

    return tuple(entry(byte) for byte in range(256))


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of `data`, the checksum of the TFRecord framing."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def frame(data: bytes) -> bytes:
    """One TFRecord: length, masked CRC of the length, `data`, masked CRC of `data`."""

    def masked(part: bytes) -> bytes:
        crc = crc32c(part)
        return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative int64 is its two's complement
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: int | float | bytes | str, wire: int) -> bytes:
    key = _varint(number << 3 | wire)
    if wire == _VARINT:
        return key + _varint(int(value))
    if wire == _FIXED64:
        return key + struct.pack("<d", value)
    if wire == _FIXED32:
        return key + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else bytes(value)  # type: ignore[arg-type]
    return key + _varint(len(data)) + data


def _event(step: int, body: bytes) -> bytes:
    """`Event`: wall_time = 1, step = 2, then `body` (file_version 3, summary 5, session_log 7)."""
    return _field(1, time.time(), _FIXED64) + _field(2, step, _VARINT) + body


class EventFile:
    """One event file in `folder`, flushed at every write.

    `resume_at`: the first step this file will hold; TensorBoard drops what older files say of it
    and of later steps, so a killed and resumed run shows one curve.
    """

    def __init__(self, folder: str | os.PathLike[str], resume_at: int | None = None):
        Path(folder).mkdir(parents=True, exist_ok=True)
        # Nanoseconds, because TensorBoard reads the files of a folder in the order of their names.
        path = Path(folder) / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        self._file = open(path, "xb")  # noqa: SIM115 (held open until close)
        self._write(_event(0, _field(3, "brain.Event:2", _BYTES)))
        if resume_at is not None:
            started = _field(1, 1, _VARINT)  # SessionLog.status = START
            self._write(_event(resume_at, _field(7, started, _BYTES)))

    def _write(self, event: bytes) -> None:
        self._file.write(frame(event))
        self._file.flush()

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Each `tag -> value` at `step`, as one event."""
        summary = b"".join(
            _field(1, _field(1, tag, _BYTES) + _field(2, value, _FIXED32), _BYTES)
            for tag, value in values.items()
        )
        self._write(_event(step, _field(5, summary, _BYTES)))

    def image(self, step: int, tag: str, png: bytes, height: int, width: int) -> None:
        """A picture already encoded as PNG."""
        image = (
            _field(1, height, _VARINT)
            + _field(2, width, _VARINT)
            + _field(3, 3, _VARINT)  # colour space: RGB
            + _field(4, png, _BYTES)
        )
        value = _field(1, tag, _BYTES) + _field(4, image, _BYTES)
        self._write(_event(step, _field(5, _field(1, value, _BYTES), _BYTES)))

    def close(self) -> None:
        self._file.close()
