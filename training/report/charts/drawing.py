"""Turn a matplotlib figure into an inline SVG that follows the page's colours, light or dark.

A chart is drawn in placeholder colours; in the finished SVG each is replaced by a variable of the page's style sheet.
One point is one CSS pixel. Text stays text; the price is that matplotlib lays it out in its own font, and it is shown
in the page's.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, MUTED, LINE, SURFACE, GOOD, BAD = "#010101", "#010102", "#010103", "#010104", "#010105", "#010106"
WIDE = 1000  # pixels: a wider chart scrolls instead of shrinking
SERIES = tuple(f"#01020{number}" for number in range(1, 7))
VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", SURFACE: "surface", GOOD: "good", BAD: "bad"}
VARIABLES |= {colour: f"c{number}" for number, colour in enumerate(SERIES, 1)}
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,
    "font.size": 12,
    "font.family": ["DejaVu Sans"],
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 12,
    "axes.titlesize": 13,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": matplotlib.cycler(color=SERIES),
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "lines.linewidth": 2,
    "legend.frameon": False,
    "legend.fontsize": 11,
    "figure.facecolor": "none",
}
PAINT = re.compile("|".join(VARIABLES))
NAMELESS = re.compile(r'<g id="(?!cells)[^"]*"')
CELL = re.compile(r"(<path [^>]*)/>")


@contextmanager
def drawing(width: int, height: float, columns: int = 1, rows: int = 1) -> Iterator[tuple[Figure, list[Axes]]]:
    """Make a figure of so many CSS pixels, in the page's style: (figure, axes row by row)."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots(rows, columns, squeeze=False)
        yield figure, list(axes.flat)


def to_svg(figure: Figure, label: str, *, tips: Sequence[str] = ()) -> str:
    """Return a figure as an <svg> for a page. label: what it shows, for readers who cannot see it.

    tips: a text for each path in the group `cells`, shown under the pointer.
    """
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # Its own font may lack a letter; the page's font draws it.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        buffer = io.StringIO()
        settle(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    width = round(figure.get_figwidth() * 72)
    box = re.search(r'viewBox="([^"]*)"', text)
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = NAMELESS.sub("<g", re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL))
    body = PAINT.sub(lambda found: f"var(--{VARIABLES[found[0]]})", body)
    body = re.sub(r"\n\s*", "\n", add_tips(body, tips))
    big = " class=big" if width > WIDE else ""
    head = f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box[1] if box else "0 0 1 1"}"{big}'
    style = (
        f"width:{width}px;min-width:min({width}px,46rem)"  # on a narrow screen a chart shrinks a little, then scrolls
    )
    return f'{head} role="img" aria-label="{escape(label)}" style="{style}">{body}'


def settle(figure: Figure) -> None:
    """Lay the figure out once. With any engine left, even one named "none", saving would draw it a second time."""
    engine = figure.get_layout_engine()
    if engine:
        engine.execute(figure)
        figure.set_layout_engine(None)


def add_tips(body: str, tips: Sequence[str]) -> str:
    """Give each cell its tip."""
    start = body.find('<g id="cells"')
    if start < 0 or not tips:
        return body
    end = body.index("</g>", start)
    left = iter(tips)
    cells = CELL.sub(lambda found: f"{found[1]}><title>{escape(next(left, ''))}</title></path>", body[start:end])
    return body[:start] + cells + body[end:]


def shorten(text: str, length: int = 26) -> str:
    """Cut a name in its middle: class names mostly differ at either end."""
    half = (length - 1) // 2
    return text if len(text) <= length else f"{text[: length - 1 - half]}…{text[-half:]}"


def bare(axes: Any) -> None:
    """Remove frame and grid."""
    axes.grid(False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
