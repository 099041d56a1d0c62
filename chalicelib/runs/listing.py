"""Write and read the keys of the list of runs: each says what one listing has to tell of a run. Pure.

    index/TIME/RUN_ID/DATASET/ETAGS/RANK-STATUS[~FACTS][/REASON]

TIME counts down, so that the newest run comes first. ETAGS are the upload's and the recipe's, `ZIP.RECIPE`: from them
the sweep knows which uploads have a run. A run has a key for each status that it had, and the highest rank is the last.
A run that was approved goes on after its end, with ranks above those of its first life. FACTS are the numbers of a run
that has ended, `ACCURACY~IMAGES~CLASSES~SECONDS~USD`; an unknown one is empty. Keys from before ETAGS or FACTS were
written lack that part.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

from chalicelib.runs.identity import Run

ON_ITS_WAY = ("checking", "waiting", "tuning", "training", "deploying")
WAITING = "waiting"
APPROVABLE = ("declined", "undecided")  # ends after which a person may have the model deployed all the same
ENDED = ("deployed", *APPROVABLE, "rejected", "failed", "stopped", "superseded")
OF_LAST = 9  # the highest rank in a run's first life
LATEST = 10**13  # milliseconds; counting time down from here sorts the newest run first
MAX_KEY = 1024  # bytes
MAX_DATASET = 600  # bytes: a name of 200, each of them quoted
MAX_REASON = 300  # bytes; `result.json` has a reason in full
STATUS = re.compile(r"\d+-[a-z]+(?:~[0-9.]*){0,5}")
ENTRY = re.compile(r"index/\d{13}/[^/]+/[^/]*/(?:[^/]+/)?\d+-[a-z]+(?:~[0-9.]*){0,5}(?:/[^/]*)?$")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
SAFE = " !\"#$&'()*+,-.:;<=>?@[]^_`{|}~"


@dataclass(frozen=True)
class Facts:
    """The numbers of an ended run that the list shows. `accuracy` is on the test images, `images` counts all."""

    accuracy: float | None = None
    images: int | None = None
    classes: int | None = None
    seconds: int | None = None
    spent_usd: float | None = None


@dataclass(frozen=True)
class Listed:
    """A run as one key of the list shows it. `dataset` is quoted; the etags are empty where the key has none."""

    run_id: str
    dataset: str
    rank: int
    status: str
    reason: str | None
    created_at: datetime
    place: str
    zip_etag: str = ""
    recipe_etag: str = ""
    facts: Facts = Facts()

    def as_dict(self) -> dict[str, Any]:
        """Return the run as the route shows it."""
        return {
            "run_id": self.run_id,
            "dataset": unquote(self.dataset),
            "status": self.status,
            "reason": self.reason,
            "created_at": self.created_at.isoformat(),
            **asdict(self.facts),
        }


def name_entries(run: Run) -> str:
    """Return the prefix of a run's keys."""
    return f"index/{_count_down(run.created_at)}/{run.run_id}/"


def write_entry(
    run: Run, status: str, reason: str | None, facts: Facts | None = None, *, is_approved: bool = False
) -> str:
    """Return the key of a run with this status, and with these facts once it has ended."""
    etags = f"{strip_etag(run.etag)}.{strip_etag(run.recipe_etag or '')}"
    state = f"{rank(status, is_approved=is_approved)}-{status}{write_facts(facts)}"
    key = f"{name_entries(run)}{fit_dataset(run.dataset)}/{etags}/{state}"
    return f"{key}/{_fit(reason, min(MAX_REASON, MAX_KEY - len(key) - 1), '…')}" if reason else key


def read_entry(key: str) -> Listed | None:
    """Read a key of the list; None for one that is of another form."""
    if not ENTRY.match(key):
        return None
    _, time, run_id, dataset, *rest = key.split("/")
    etags = "" if STATUS.fullmatch(rest[0]) else rest.pop(0)
    told, *facts = rest[0].split("~")
    number, _, status = told.partition("-")
    of_zip, _, of_recipe = etags.partition(".")
    return Listed(
        run_id=run_id,
        dataset=dataset,
        rank=int(number),
        status=status,
        reason=unquote(rest[1]) if len(rest) > 1 else None,
        created_at=datetime.fromtimestamp((LATEST - int(time)) / 1000, UTC),
        place=f"{time}/{run_id}",
        zip_etag=of_zip,
        recipe_etag=of_recipe,
        facts=read_facts(facts),
    )


def write_facts(facts: Facts | None) -> str:
    """Return the part of a key that holds these facts; empty where there are none."""
    if facts is None or facts == Facts():
        return ""
    accuracy, usd = facts.accuracy, facts.spent_usd
    parts = [
        "" if accuracy is None else f"{accuracy:.6f}",
        *("" if each is None else f"{each:d}" for each in (facts.images, facts.classes, facts.seconds)),
        "" if usd is None else f"{usd:.4f}",
    ]
    return "".join(f"~{part}" for part in parts)


def read_facts(parts: list[str]) -> Facts:
    """Read what write_facts wrote. A part that is no number is unknown."""
    values = [float(part) if NUMBER.fullmatch(part) else None for part in parts] + [None] * 5
    images, classes, seconds = (None if value is None else int(value) for value in values[1:4])
    return Facts(values[0], images, classes, seconds, values[4])


def rank(status: str, *, is_approved: bool = False) -> int:
    """Rank a status: the later of two has the greater rank.

    A run may wait before each launch. Waiting ranks above every stage, and its key is deleted once the run goes on.
    """
    own = ON_ITS_WAY.index(status) if status in ON_ITS_WAY else OF_LAST
    return (8 if status == WAITING else own) + (OF_LAST + 1) * is_approved


def strip_etag(etag: str) -> str:
    """Return an etag without its quotation marks."""
    return etag.strip('"')


def fit_dataset(name: str) -> str:
    """Return a dataset's name as the list writes it."""
    return _fit(name, MAX_DATASET)


def _count_down(created_at: str) -> str:
    milliseconds = int(datetime.fromisoformat(created_at).timestamp() * 1000)
    return f"{LATEST - milliseconds:013d}"


def _fit(text: str, most: int, ending: str = "") -> str:
    """Quote a text as one part of a key: no `/`, no control characters, at most so many bytes.

    A text that is cut ends in `ending`, if that fits.
    """
    if len(whole := quote(text, safe=SAFE)) <= most:
        return whole
    tail = quote(ending, safe=SAFE)
    tail = tail if len(tail) < most else ""
    while len(quoted := quote(text.rstrip(), safe=SAFE)) > most - len(tail):
        text = text[: min(len(text) - 1, most)]
    return quoted + tail
