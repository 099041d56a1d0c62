"""Draw docs/architecture.svg from the tables of docs/architecture.md: `python -m docs.drawing`."""

from __future__ import annotations

from docs.drawing.svg import draw
from docs.drawing.tables import PAGE

PAGE.with_suffix(".svg").write_text(draw(), encoding="utf-8")
