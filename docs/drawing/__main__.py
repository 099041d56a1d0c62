"""Make what is drawn from the code: `python -m docs.drawing`.

docs/architecture.svg comes from the tables of docs/architecture.md, docs/errors.md from chalicelib/errors.py.
"""

from __future__ import annotations

from docs.drawing.errors import ERRORS_PAGE, write_errors
from docs.drawing.svg import draw
from docs.drawing.tables import PAGE

if __name__ == "__main__":
    PAGE.with_suffix(".svg").write_text(draw(), encoding="utf-8")
    ERRORS_PAGE.write_text(write_errors(), encoding="utf-8")
