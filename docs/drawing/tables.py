"""Read the tables of docs/architecture.md: the units, the rooms, and the way of the data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "architecture.md"
ALL_BELOW = "all below"
UNITS = "Units that are shipped apart, and meet only through data"


@dataclass(frozen=True)
class Room:
    """One row of the table of rooms, or a unit that has none.

    `packages` maps each package that may be imported to the one file that may, or to None where every file may.
    """

    path: str
    subject: str
    imports: tuple[str, ...]
    packages: dict[str, str | None]

    @property
    def unit(self) -> str:
        return self.path.partition("/")[0]

    @property
    def name(self) -> str:
        """The room's path below its unit; a unit without rooms has its own name."""
        return self.path.partition("/")[2] or self.path

    def holds(self, path: str) -> bool:
        return path == self.path or path.startswith(f"{self.path}/")


@dataclass(frozen=True)
class Step:
    """One step of the way of the data."""

    number: int
    room: str
    text: str


def read_rows(heading: str) -> Iterator[list[str]]:
    """Yield the cells of each row of the first table below a heading, without the table's own head."""
    page = PAGE.read_text(encoding="utf-8")
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    for line in table[0].splitlines()[2:] if table else ():
        yield [cell.strip() for cell in line.strip("|").split("|")]


def read_packages(cell: str) -> dict[str, str | None]:
    """Read packages such as `` `numpy` `boto3` (`clients.py`) ``: the latter may be imported in that file alone."""
    return {package: file or None for package, file in re.findall(r"`([\w.]+)`(?: \(`([\w./]+)`\))?", cell)}


@cache
def read_rooms() -> tuple[Room, ...]:
    """Return every room, from the top down, unit by unit."""
    rooms = []
    for path, subject, imports, packages in read_rows("The rooms of the house"):
        names = (ALL_BELOW,) if imports == ALL_BELOW else tuple(re.findall(r"`([^`]+)`", imports))
        rooms.append(Room(path.strip("`"), subject, names, read_packages(packages)))
    return tuple(rooms)


@cache
def read_units() -> dict[str, dict[str, str | None]]:
    """Return each unit with what all of its files may import beside Python's own modules and the unit itself."""
    return {path.strip("`"): read_packages(cell) for path, _, _, cell in read_rows(UNITS)}


@cache
def read_steps() -> tuple[Step, ...]:
    """Return the way of the data through the rooms."""
    return tuple(Step(int(number), room.strip("`"), text) for number, room, text in read_rows("The way of the data"))


def list_below(room: Room) -> list[Room]:
    """List the rooms of the same unit in rows below this one."""
    rooms = [each for each in read_rooms() if each.unit == room.unit]
    return rooms[rooms.index(room) + 1 :]


def list_imported(room: Room) -> list[Room]:
    """List the rooms that this one may import. Raises KeyError for a name that is no room below it."""
    below = {each.name: each for each in list_below(room)}
    return list(below.values()) if room.imports == (ALL_BELOW,) else [below[name] for name in room.imports]
