"""Read an object of the bucket as a file, though S3 only has GETs of spans, each of which costs some 30 ms. Pure."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

READ_AHEAD = 1024 * 1024
GETS_AT_ONCE = 10  # as many connections as boto3's client pools
Fetch = Callable[[int, int], bytes]


class ObjectFile(io.RawIOBase):
    """An object of `size` bytes as a seekable file. `fetch(start, end)` reads one span by a GET, and raises our errors.

    Prefetched spans are served from memory; any other read takes the megabyte that begins with it along.
    """

    def __init__(self, size: int, fetch: Fetch) -> None:
        super().__init__()
        self._size, self._fetch = size, fetch
        self._position = 0
        self._ahead = (0, b"")
        self._spans: dict[int, bytes] = {}
        self._starts: list[int] = []

    def prefetch(self, spans: Iterable[tuple[int, int]]) -> None:
        """Read spans of (start, end), many at once, and keep them instead of the earlier ones."""
        wanted = list(dict.fromkeys(spans))
        self._spans = dict(zip((start for start, _ in wanted), self._fetch_all(wanted), strict=True))
        self._starts = sorted(self._spans)

    def _fetch_all(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        if len(spans) < 2:
            return [self._fetch(*span) for span in spans]
        with ThreadPoolExecutor(GETS_AT_ONCE) as pool:
            return list(pool.map(lambda span: self._fetch(*span), spans))

    def read(self, size: int | None = -1, /) -> bytes:
        start = min(self._position, self._size)
        end = self._size if size is None or size < 0 else min(start + size, self._size)
        body = self._find_kept(start, end) if start < end else b""
        if body is None:
            body = self._read_ahead(start, end)
        self._position += len(body)
        return body

    def _find_kept(self, start: int, end: int) -> bytes | None:
        """Return the bytes if one kept span contains all of them, else None."""
        place = bisect_right(self._starts, start) - 1
        kept = [(self._starts[place], self._spans[self._starts[place]])] if place >= 0 else []
        for begin, span in [*kept, self._ahead]:
            if begin <= start and end <= begin + len(span):
                return span[start - begin : end - begin]
        return None

    def _read_ahead(self, start: int, end: int) -> bytes:
        body = self._fetch(start, min(max(end, start + READ_AHEAD), self._size))
        if len(body) <= READ_AHEAD:  # a large read is not kept a second time
            self._ahead = (start, body)
        return body[: end - start]

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
