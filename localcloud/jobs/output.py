"""Read what a program appends to its log, in whole lines, and go on where a killed cloud left off."""

from __future__ import annotations

from pathlib import Path


class LogReader:
    """Reads what is appended to a log from its construction on, or from where an earlier cloud's `mark` says."""

    def __init__(self, path: Path, mark: Path | None = None) -> None:
        self._path, self._mark = path, mark
        self._offset = self._recall() if mark is not None and mark.exists() else _measure(path)
        self._rest = b""
        self._marked = -1
        self.last_line = ""

    def read(self, *, last: bool = False) -> list[str]:
        """Return the new complete lines; with `last`, an unfinished line too."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        self._offset += len(data)
        *whole, self._rest = (self._rest + data).replace(b"\r\n", b"\n").split(b"\n")
        if last and self._rest:
            whole, self._rest = [*whole, self._rest], b""
        lines = [line.decode("utf-8", errors="replace") for line in whole]
        self.last_line = next((line for line in reversed(lines) if line.strip()), self.last_line)
        return lines

    def mark(self) -> None:
        """Note that what was read has been dealt with; an unfinished line has not."""
        if self._mark is not None and (offset := self._offset - len(self._rest)) != self._marked:
            partial = self._mark.with_suffix(".tmp")
            partial.write_text(str(offset), encoding="ascii")
            partial.replace(self._mark)
            self._marked = offset

    def _recall(self) -> int:
        try:
            return int(self._mark.read_text(encoding="ascii")) if self._mark else 0
        except ValueError:
            return _measure(self._path)


def _measure(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
