"""An object is a file like any other, whatever is read of it, and in whichever order."""

from __future__ import annotations

import io
import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.aws.files import READ_AHEAD, ObjectFile

BODY = bytes(number * 31 % 251 for number in range(3_000_000))
PLACES = st.integers(0, 3_500_000)
STEPS = st.one_of(
    st.tuples(st.just("seek"), PLACES, st.just(io.SEEK_SET)),
    st.tuples(st.just("seek"), st.integers(-3_000_000, 10), st.just(io.SEEK_END)),
    st.tuples(st.just("read"), st.one_of(st.integers(-1, 200), st.integers(500_000, 2_000_000), st.none())),
    st.tuples(st.just("prefetch"), st.lists(st.tuples(PLACES, st.integers(1, 70_000)), max_size=3)),
    st.tuples(st.just("tell")),
)


@given(st.lists(STEPS, max_size=12), st.sampled_from([0, 1, 2_999_999]))
def test_it_reads_as_a_file_in_memory_does(steps: list[tuple[Any, ...]], size: int) -> None:
    """Spans and what was read ahead change nothing but the number of requests, and no empty span is asked for."""
    body, asked = BODY[:size], []

    def fetch(start: int, end: int) -> bytes:
        asked.append((start, end))
        return body[start:end]

    ours, plain = ObjectFile(size, fetch), io.BytesIO(body)
    for name, *arguments in steps:
        if name == "prefetch":
            ours.prefetch((start, start + length) for start, length in arguments[0] if start + length <= size)
        else:
            assert getattr(ours, name)(*arguments) == getattr(plain, name)(*arguments)
    assert all(0 <= start < end <= size for start, end in asked)


def test_small_reads_in_a_row_ask_once_a_megabyte() -> None:
    """A loop over a file's first three megabytes makes three requests."""
    calls = itertools.count()

    def fetch(start: int, end: int) -> bytes:
        next(calls)
        return BODY[start:end]

    file = ObjectFile(len(BODY), fetch)
    while file.read(50_000):
        pass
    assert next(calls) == -(-len(BODY) // READ_AHEAD) == 3
