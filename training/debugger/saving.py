"""Write the tensors of a step with the bytes that smdebug would write, in a tenth of the time, and read them back.
Imports smdebug, so only hook.py and reader.py import this module.

A saving step has hundreds of tensors, most of them single numbers. For each, smdebug builds some forty messages in
Python's own protocol buffers, and hands them to a thread: that takes longer than computing the numbers. Here the bytes
are put together directly, as https://protobuf.dev/programming-guides/encoding describes them.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from smdebug.core.locations import TensorLocation
from smdebug.core.modes import MODE_PLUGIN_NAME, MODE_STEP_PLUGIN_NAME, ModeKeys
from smdebug.core.tfevent.event_file_reader import as_dtype
from smdebug.core.tfevent.events_writer import EventsWriter
from smdebug.core.tfevent.proto.types_pb2 import DataType
from smdebug.core.tfevent.util import _get_proto_dtype
from smdebug.core.utils import get_relative_event_file_path, parse_worker_name_from_file
from smdebug.core.writer import FileWriter

INTEGER, DOUBLE, BYTES = 0, 1, 2  # how a field's value is written
HEAD, FOOT = 12, 4  # the bytes before and after an event: its length and checksums
READ_WHOLE = 4_000_000  # bytes of a step's file that is read at once


class StepWriter(FileWriter):  # type: ignore[misc]
    """Write the files of one step: its tensors, and where in them each is."""

    @property
    def proto_writer(self) -> Any:
        if self._proto_writer is None:
            self._proto_writer = EventsWriter(self.event_file_path, index_writer=self.index_writer)
            self._proto_writer.init()
            self.place = get_relative_event_file_path(self.event_file_path)
            self.worker_name = parse_worker_name_from_file(self.place)
        return self._proto_writer

    def write_tensor(
        self,
        tdata: np.ndarray[Any, Any],
        tname: str,
        write_index: bool = True,
        mode: Any = ModeKeys.GLOBAL,
        mode_step: int | None = None,
        timestamp: float | None = None,
    ) -> None:
        """Write a tensor, and note where. The arguments are smdebug's."""
        mode, number = self._check_mode_step(mode, mode_step, self.step)
        event = encode_event(tdata, tname, self.step, timestamp or time.time(), encode_metadata(mode.value, number))
        start, length = self.proto_writer._write_serialized_event(event)
        if write_index:
            found = TensorLocation(tname, mode.name, number, self.place, start, length, self.worker_name)
            self.index_writer.add_index(found)


def encode_event(value: np.ndarray[Any, Any], name: str, step: int, when: float, metadata: bytes) -> bytes:
    """Return the event that holds a tensor as its summary."""
    tensor = (
        integer(1, find_type(value.dtype)) + nested(2, encode_shape(value.shape, name)) + nested(4, value.tobytes())
    )
    summary = nested(1, nested(1, name.encode()) + nested(8, tensor) + nested(9, metadata))
    return tag(1, DOUBLE) + struct.pack("<d", when) + integer(2, step) + nested(5, summary)


def encode_shape(shape: tuple[int, ...], name: str) -> bytes:
    return b"".join(nested(2, integer(1, size) + nested(2, f"{name}_{size}".encode())) for size in shape)


@lru_cache(maxsize=8)
def encode_metadata(mode: int, step: int) -> bytes:
    """Return what says of which mode a tensor is, and of which of the mode's steps."""
    plugins = {MODE_STEP_PLUGIN_NAME: step, MODE_PLUGIN_NAME: mode}
    return b"".join(
        nested(1, nested(1, name.encode()) + nested(2, str(told).encode())) for name, told in plugins.items()
    )


@cache
def find_type(dtype: np.dtype[Any]) -> int:
    """Return the number of a type of values. smdebug raises an error for one that it does not know."""
    return int(DataType.Value(_get_proto_dtype(dtype)[1]))


def integer(field: int, value: int) -> bytes:
    """Encode a field that holds a whole number; zero is what a missing field means."""
    return tag(field, INTEGER) + varint(value & (1 << 64) - 1) if value else b""


def nested(field: int, content: bytes) -> bytes:
    """Encode a field that holds text, bytes or a message."""
    return tag(field, BYTES) + varint(len(content)) + content


@cache
def tag(field: int, kind: int) -> bytes:
    return varint(field << 3 | kind)


def varint(value: int) -> bytes:
    """Encode a number in groups of seven bits, the lowest first; the eighth bit says that another follows."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


class ValueReader:
    """Read the tensors of a step from its file, which is read once; leave all others to `otherwise`, smdebug's way."""

    def __init__(self, otherwise: Callable[[TensorLocation], Any]) -> None:
        self.otherwise = otherwise
        self.path, self.content = Path(), b""

    def __call__(self, location: TensorLocation) -> Any:
        path = Path(location.event_file_name)
        if path != self.path and path.is_file() and path.stat().st_size <= READ_WHOLE:
            self.path, self.content = path, path.read_bytes()
        if path != self.path:
            return self.otherwise(location)
        return decode_event(self.content[location.start_idx + HEAD : location.start_idx + location.length - FOOT])


def decode_event(event: bytes) -> np.ndarray[Any, Any]:
    """Return the tensor that an event holds as its summary."""
    tensor = find(find(find(event, 5), 1), 8)
    shape = [find(dimension, 1) for field, dimension in walk(find(tensor, 2)) if field == 2]
    values = np.frombuffer(find(tensor, 4), as_dtype(find(tensor, 1)))
    return values.copy().reshape(shape)


def find(message: bytes, wanted: int) -> Any:
    """Return the first value of a field."""
    return next(value for field, value in walk(message) if field == wanted)


def walk(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield a message's fields: numbers and values."""
    place = 0
    while place < len(message):
        told, place = read_varint(message, place)
        if told & 7 == DOUBLE:
            value, place = message[place : place + 8], place + 8
        else:
            value, place = read_varint(message, place)
        if told & 7 == BYTES:
            value, place = message[place : place + value], place + value
        yield told >> 3, value


def read_varint(message: bytes, place: int) -> tuple[int, int]:
    """Decode the number at a place; return it, and the place behind it."""
    value, shift = 0, 0
    while message[place] > 0x7F:
        value |= (message[place] & 0x7F) << shift
        place, shift = place + 1, shift + 7
    return value | message[place] << shift, place + 1
