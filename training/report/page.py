"""Build the page around the sections: one self-contained HTML file for screens, both colour schemes, and paper."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from report.style import STYLE

# The control plane puts its verdict on the whole run between these marks.
BEGIN, END = "<!-- verdict -->", "<!-- /verdict -->"
NEXT, END_NEXT = "<!-- next -->", "<!-- /next -->"  # and its advice, which knows the whole run, here
RUN, CHANGES = "<!-- run -->", "<!-- changes -->"  # and there, what it knows of the run and of the version before
LEAST = 0.001


def build_page(title: str, subtitle: str, sections: Sequence[tuple[str, str, str]]) -> str:
    """Assemble a page. sections: (anchor, title, HTML) in their order."""
    links = "".join(f'<a href="#{anchor}">{escape(name)}</a>' for anchor, name, _ in sections)
    parts = "\n".join(
        f'<section id="{anchor}"><h2>{escape(name)}</h2>\n{body}\n</section>' for anchor, name, body in sections
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header><h1>{escape(title)}</h1><p class="muted">{subtitle}</p></header>
<nav aria-label="Sections">{links}</nav>
<main>
{parts}
</main>
<footer class="muted">Written by Whippet at the end of the training. One file: it can be mailed, printed, kept.</footer>
</body>
</html>
"""


def attempt(draw: Callable[[], str], warn: Callable[[str], None], what: str) -> str:
    """Draw a part; one that cannot be drawn says so in its place and does not harm the others."""
    try:
        return draw()
    except Exception as error:  # noqa: BLE001  other programs wrote the files, and a partial report is better than none
        warn(f"WARNING: the report's part on {what} could not be drawn: {type(error).__name__}: {error}")
        return note(f"This part could not be drawn ({type(error).__name__}: {error}).")


def note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def title(text: str) -> str:
    return f"<h3>{escape(text)}</h3>"


def figure(drawn: str, caption: str) -> str:
    """Return a chart with its caption; on a narrow screen it scrolls sideways rather than become unreadably small."""
    return f'<figure><div class="scroll">{drawn}</div><figcaption>{escape(caption)}</figcaption></figure>'


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]], *, numbers: int = 99, marked: int | None = None) -> str:
    """Return a table; values are escaped unless they are `Html`. The last `numbers` columns hold numbers.

    marked: the row to highlight.
    """
    first = max(1, len(heads) - numbers)
    top = "".join(f"<th{' class=n' if place >= first else ''}>{escape(head)}</th>" for place, head in enumerate(heads))
    words = "" if numbers else " class=words"
    body = []
    for number, row in enumerate(rows):
        cells = "".join(
            f"<td{' class=n' if place >= first else ''}>{show(cell)}</td>" for place, cell in enumerate(row)
        )
        body.append(f"<tr{' class=best' if number == marked else ''}>{cells}</tr>")
    return (
        f'<div class="scroll"><table{words}><thead><tr>{top}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )


class Html(str):
    """Text that is HTML already."""


def show(value: Any) -> str:
    """Return a value for readers: four digits at most, and words as they are."""
    if isinstance(value, Html):
        return str(value)
    if value is None or value == "":
        return '<span class="muted">–</span>'
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2e}" if 0 < abs(value) < LEAST else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else escape(str(value))


def percent(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}%}"


def pill(text: str, kind: str) -> Html:
    """Return a short status: kind is good, bad or plain; the text says it too."""
    return Html(f'<span class="pill {kind}">{escape(text)}</span>')


def fold(summary: str, body: str) -> str:
    """Return something long, folded; it is open on paper."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def tiles(values: Mapping[str, tuple[str, str]]) -> str:
    """Return the few figures that matter most: name to (value, what to know about it)."""
    parts = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(hint)}</small></dd></div>"
        for name, (value, hint) in values.items()
    )
    return f'<dl class="tiles">{parts}</dl>'
