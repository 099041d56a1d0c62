"""Read a multipart form (RFC 7578): its files and fields, as bytes. Pure."""

from __future__ import annotations

from typing import Any

from chalicelib import errors

FORM_TYPE = "multipart/form-data"


def parse_form(body: bytes, content_type: str) -> list[tuple[str | None, bytes]]:
    """Return (file name or None, bytes) of each field of a form. Raises BadRequest."""
    from python_multipart.exceptions import MultipartParseError
    from python_multipart.multipart import MultipartParser, parse_options_header

    _, options = parse_options_header(content_type)
    if not options.get(b"boundary"):
        raise errors.BadRequest(f"The content type is {FORM_TYPE} without a boundary. Let your client set the header.")
    parts = Parts()
    try:
        parser = MultipartParser(options[b"boundary"], parts.callbacks())  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except MultipartParseError as error:
        raise errors.BadRequest(f"The form cannot be read ({error}). Send it as your HTTP client builds it.") from error
    if not parts.is_complete:
        raise errors.BadRequest("The form is cut off: its closing boundary is missing. Send it again, whole.")
    return parts.found


class Parts:
    """Collect the parts of a form while they are parsed."""

    def __init__(self) -> None:
        self.found: list[tuple[str | None, bytes]] = []
        self.is_complete = False
        self._headers: dict[bytes, bytes] = {}
        self._field, self._value, self._data = b"", b"", bytearray()

    def callbacks(self) -> dict[str, Any]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_field,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_part_data": self._add_data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._headers, self._data = {}, bytearray()

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def _end(self) -> None:
        from python_multipart.multipart import parse_options_header

        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"filename")
        self.found.append((name.decode("utf-8", "replace") if name is not None else None, bytes(self._data)))

    def _finish(self) -> None:
        self.is_complete = True
