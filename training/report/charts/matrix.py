"""Draw the confusion matrix, legible from 2 to 250 classes.

Few classes: large cells with their counts. Many: every class still has a row, a column and its name, and a cell shows
its count under the pointer; the most confused classes are drawn once more, large.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection

from report.charts.drawing import BAD, INK, LINE, SERIES, SURFACE, bare, drawing, shorten, to_svg

Matrix = Sequence[Sequence[int]]
NUMBERED = 25  # up to this many classes, cells are large enough for numbers
MAX_CELLS = 5000
FAINTEST = 0.25


def draw_matrix(classes: Sequence[str], confusion: Matrix) -> str:
    """Draw counts by true class (rows) and answer (columns); colour depth is the share of the row."""
    count = len(classes)
    side = choose_side(count)
    length = 22 if count <= NUMBERED else 28
    names = [shorten(name, length) for name in classes]
    size = max(7, min(12, side * 0.85))
    margin = max(map(len, names)) * size * 0.62 + 30
    cells = list_cells(confusion)
    with drawing(round(count * side + margin), count * side + margin) as (figure, [axes]):
        bare(axes)
        shapes = [((x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1)) for y, x, _, _ in cells]
        paints = [(SERIES[0] if y == x else BAD, FAINTEST + (1 - FAINTEST) * share) for y, x, _, share in cells]
        axes.add_collection(PolyCollection(shapes, facecolors=paints, linewidths=0, gid="cells"))
        draw_lines(axes, count)
        if count <= NUMBERED:
            write_counts(axes, cells, min(13, side * 0.4))
        axes.set_xlim(0, count)
        axes.set_ylim(count, 0)
        axes.set_aspect("equal")
        middles = [number + 0.5 for number in range(count)]
        turned = 90 if count > NUMBERED or max(map(len, names)) * size > side else 0
        axes.set_xticks(middles, names, rotation=turned, fontsize=size)
        axes.set_yticks(middles, names, fontsize=size)
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        axes.set_xlabel("the model's answer")
        axes.set_ylabel("the label")
        tips = [f"{classes[y]} called {classes[x]}: {number} ({share:.0%})" for y, x, number, share in cells]
        return to_svg(figure, f"Confusion matrix of {count} classes", tips=tips)


def choose_side(count: int) -> float:
    """Choose a cell's side in pixels: large enough for a number, or at least for a name beside it."""
    if count <= NUMBERED:
        return min(72.0, max(30.0, 700 / count))
    return max(9.0, min(16.0, 1000 / count))


def list_cells(confusion: Matrix) -> list[tuple[int, int, int, float]]:
    """List the non-zero cells as (row, column, count, share of the row); if very many, the largest MAX_CELLS."""
    cells = [
        (y, x, number, number / sum(row))
        for y, row in enumerate(confusion)
        for x, number in enumerate(row)
        if number and sum(row)
    ]
    return sorted(cells, key=lambda cell: (cell[0] != cell[1], -cell[2]))[:MAX_CELLS]


def draw_lines(axes: Axes, count: int) -> None:
    """Draw the matrix's lines: at every cell if cells are few, at every tenth if they are many."""
    step = 1 if count <= 60 else 10
    places = [*range(0, count, step), count]
    axes.hlines(places, 0, count, color=LINE, linewidth=0.7, zorder=0)
    axes.vlines(places, 0, count, color=LINE, linewidth=0.7, zorder=0)


def write_counts(axes: Axes, cells: Sequence[tuple[int, int, int, float]], size: float) -> None:
    for y, x, number, share in cells:
        colour = SURFACE if share > 0.6 else INK
        style = {"ha": "center", "va": "center", "fontsize": size, "color": colour}
        axes.text(x + 0.5, y + 0.5, str(number), **style)


def pick_confused(confusion: Matrix, count: int = NUMBERED) -> list[int]:
    """Return the classes that take part in most confusions, in their own order."""
    weights = [
        sum(row) - row[number] + sum(other[number] for other in confusion) - row[number]
        for number, row in enumerate(confusion)
    ]
    chosen = sorted(range(len(weights)), key=lambda number: -weights[number])[:count]
    return sorted(number for number in chosen if weights[number])


def cut_matrix(confusion: Matrix, chosen: Sequence[int]) -> list[list[int]]:
    """Return the rows and columns of the chosen classes."""
    return [[confusion[row][column] for column in chosen] for row in chosen]
