"""The picture of the rooms as SVG: a column for each unit, each room above all that it imports, the steps numbered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from html import escape

from docs.drawing.tables import Room, Step, list_imported, read_rooms, read_steps

WIDTH, MARGIN, GAP = 1260, 24, 10
COLUMN = (WIDTH - 2 * MARGIN - 2 * 3 * GAP) / 4
BOX, TOP = 44, 96
IN_A_ROW = 2
COLUMNS = ("chalicelib", "training", "localcloud", "infrastructure")
TITLES = {
    "chalicelib": "decides, in Lambda",
    "training": "trains, in SageMaker's jobs",
    "localcloud": "stands for AWS on one machine",
    "infrastructure": "deploys, from your workstation",
}
ALONE = {"app.py": ("chalicelib", "routes, events"), "inference": ("training", "the endpoint")}
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #1d2733; }
  .unit { font-weight: 600; font-size: 15px; } .small { font-size: 11px; fill: #5a6775; }
  .band { fill: #f4f6f8; stroke: #d5dbe1; } .room { fill: #fff; stroke: #9fb0c0; }
  .badge { fill: #0b6e4f; } .number { fill: #fff; font-size: 11px; font-weight: 600; text-anchor: middle; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e4e9ee; } .small { fill: #9aa8b5; }
    .band { fill: #171d23; stroke: #2d3741; } .room { fill: #222b34; stroke: #4a5a69; } .badge { fill: #1c9e75; }
    .number { fill: #fff; }
  }"""


def find_floor(room: Room) -> int:
    """Return how many rooms lie below this one, one upon another."""
    return max((find_floor(each) + 1 for each in list_imported(room)), default=0)


def place_rooms(unit: str) -> list[list[Room]]:
    """Return a unit's rooms by rows, from the top floor down."""
    floors: dict[int, list[Room]] = defaultdict(list)
    for room in read_rooms():
        if room.unit == unit:
            floors[find_floor(room)].append(room)
    return [row for number in sorted(floors, reverse=True) for row in wrap(floors[number])]


def wrap(rooms: list[Room]) -> Iterator[list[Room]]:
    """Yield the rooms of one floor in rows that leave space for their names."""
    for start in range(0, len(rooms), IN_A_ROW):
        yield rooms[start : start + IN_A_ROW]


def draw() -> str:
    """Return the whole picture."""
    units = {unit: place_rooms(unit) for unit in COLUMNS}
    height = TOP + max(map(len, units.values())) * (BOX + GAP) + GAP
    steps = read_steps()
    legend = height + 34
    total = legend + (len(steps) + 1) // 2 * 20 + 16
    body = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total:g}" role="img" '
        'aria-label="The rooms of the code and the way of the data through them">',
        f"<style>{STYLE}\n</style>",
    ]
    for number, unit in enumerate(COLUMNS):
        body += draw_unit(unit, units[unit], MARGIN + number * (COLUMN + 2 * GAP), height)
    body += draw_legend(steps, legend)
    return "\n".join([*body, "</svg>", ""])


def draw_unit(unit: str, floors: list[list[Room]], left: float, height: float) -> Iterator[str]:
    """Draw one column: the unit's name, what stands above it alone, and its floors down to the ground."""
    yield f'<rect class="band" x="{left:g}" y="{MARGIN}" width="{COLUMN:g}" height="{height - MARGIN:g}" rx="8"/>'
    alone = next(((name, text) for name, (beside, text) in ALONE.items() if beside == unit), None)
    yield f'<text class="unit" x="{left + GAP:g}" y="48">{unit}</text>'
    yield f'<text class="small" x="{left + GAP:g}" y="65">{escape(TITLES[unit])}</text>'
    if alone:
        yield from draw_box(*alone, left + COLUMN * 0.6, 34, COLUMN * 0.4 - GAP, full=alone[0])
    first = height - len(floors) * (BOX + GAP)
    for number, rooms in enumerate(floors):
        width = (COLUMN - GAP * (len(rooms) + 1)) / len(rooms)
        for place, room in enumerate(rooms):
            x, y = left + GAP + place * (width + GAP), first + number * (BOX + GAP)
            yield from draw_box(room.name, room.subject, x, y, width, full=room.path)


def draw_box(name: str, subject: str, x: float, y: float, width: float, *, full: str) -> Iterator[str]:
    """Draw one room, with a badge for each step of the data that is made in it."""
    yield f"<g><title>{escape(f'{full}: {subject}')}</title>"
    yield f'<rect class="room" x="{x:g}" y="{y:g}" width="{width:g}" height="{BOX}" rx="5"/>'
    yield f'<text x="{x + 8:g}" y="{y + 18:g}">{escape(shorten(name, width - 12, 6.4))}</text>'
    yield f'<text class="small" x="{x + 8:g}" y="{y + 34:g}">{escape(shorten(strip(subject), width - 12, 5.9))}</text>'
    for place, step in enumerate(step for step in read_steps() if step.room == full):
        centre = x + width - 14 - place * 22
        yield f'<circle class="badge" cx="{centre:g}" cy="{y:g}" r="10"/>'
        yield f'<text class="number" x="{centre:g}" y="{y + 4:g}">{step.number}</text>'
    yield "</g>"


def strip(text: str) -> str:
    return text.replace("`", "")


def shorten(text: str, width: float, letter: float) -> str:
    """Cut a text to what fits into a width, by the mean width of a letter."""
    room = int(width / letter)
    return text if len(text) <= room else text[: max(room - 1, 1)].rstrip() + "…"


def draw_legend(steps: tuple[Step, ...], top: float) -> Iterator[str]:
    """Write the steps of the data in two columns."""
    rows = (len(steps) + 1) // 2
    for number, step in enumerate(steps):
        x, y = MARGIN + 10 + number // rows * (WIDTH / 2 - MARGIN), top + number % rows * 20
        yield f'<circle class="badge" cx="{x:g}" cy="{y - 4:g}" r="9"/>'
        yield f'<text class="number" x="{x:g}" y="{y:g}">{step.number}</text>'
        yield f'<text class="small" x="{x + 16:g}" y="{y:g}">{escape(shorten(strip(step.text), 540, 5.7))}</text>'
