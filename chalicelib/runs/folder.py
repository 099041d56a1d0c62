"""Read and write a run's folder in the bucket, and the list of runs.

There is no database. `runs/RUN_ID/` holds the run's files, each written once by a conditional put. `active/RUN_ID`
tells the sweep where to look. The keys below `index/` carry time, run, dataset, status and reason, so that one listing
gives the list of runs; this is why a reason is cut there. The price: each status is a new key, so a run leaves up to
five.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

from chalicelib.aws.buckets import Bucket, Entry, Stored, to_json
from chalicelib.errors import RunNotFound
from chalicelib.runs.identity import Run, make_run_id
from chalicelib.settings import Settings

CHECKPOINT = "/checkpoint.pt"  # a stopped job leaves it; a job that completes removes it
ON_ITS_WAY = ("checking", "waiting", "tuning", "training", "deploying")
WAITING = "waiting"
ENDED = ("deployed", "declined", "rejected", "failed", "stopped", "superseded")
KEYS_OF_RUN = len(ON_ITS_WAY) + 1  # in the list: one key for each stage and one for the end
LATEST = 10**13  # milliseconds; counting time down from here sorts the newest run first
MAX_INDEXED = 300  # bytes of a name or a reason within a key, of which S3 allows 1024


class Runs:
    """The runs of one bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    def find(self, run_id: str) -> Run | None:
        document = self.read_file(run_id, "run.json")
        if document is None:
            return None
        known = {name: document[name] for name in Run.__dataclass_fields__ if name in document}
        return Run(**known)

    def get(self, run_id: str) -> Run:
        """Return the run of this name. Raises RunNotFound."""
        run = self.find(run_id)
        if run is None:
            raise RunNotFound(f"There is no run {run_id!r}. GET /runs lists them.")
        return run

    def create(self, run: Run) -> bool:
        """Begin a run: its marker first, so that the sweep finds it whatever happens next. False if the run exists."""
        self.bucket.write(f"active/{run.run_id}", to_json({"dataset": run.dataset}))
        return self.write_file(run.run_id, "run.json", asdict(run))

    def add_cost(self, run_id: str, cost: dict[str, Any]) -> None:
        """Add the estimated cost to run.json. The first one stands, because the run's requests use its limits."""
        stored = self.bucket.read(f"runs/{run_id}/run.json")
        document = stored.as_json() if stored else {}
        if stored and document.get("cost") is None:
            self.bucket.replace(f"runs/{run_id}/run.json", to_json(document | {"cost": cost}), stored.etag)

    def list_files(self, run_id: str) -> set[str]:
        """List the names of the files directly in the run's folder, and of its notices as `notices/NAME`."""
        folder = f"runs/{run_id}/"
        names = set(self.bucket.list_names(folder))
        if "notices/" in names:
            names |= {f"notices/{name}" for name in self.bucket.list_names(f"{folder}notices/")}
        return names

    def read_file(self, run_id: str, name: str) -> dict[str, Any] | None:
        stored = self.bucket.read(f"runs/{run_id}/{name}")
        return stored.as_json() if stored else None

    def read_job_file(self, run_id: str, job: str, name: str) -> Stored | None:
        """Read what a job wrote into its checkpoint folder, or None.

        AWS documents nowhere whether tuning appends a trial's name to the prefix of its checkpoints. The program writes
        below its own name either way, so the file has one of two places.
        """
        folder = f"runs/{run_id}/jobs/{job}/"
        return self.bucket.read(f"{folder}{name}") or self.bucket.read(f"{folder}{job}/{name}")

    def write_file(self, run_id: str, name: str, document: dict[str, Any]) -> bool:
        """Write one of the run's files. Returns False if it was written before: the first one stands."""
        return self.bucket.create(f"runs/{run_id}/{name}", to_json(document)) is not None

    def list_active(self) -> list[str]:
        """List the runs that may still have something to do."""
        return [entry.key.removeprefix("active/") for entry in self.bucket.list_entries("active/")]

    def find_active_dataset(self, run_id: str) -> tuple[str, Entry] | None:
        """Return the dataset that an active marker names, and the marker's description."""
        stored, entry = self.bucket.read(f"active/{run_id}"), self.bucket.describe(f"active/{run_id}")
        return (stored.as_json()["dataset"], entry) if stored and entry else None

    def close(self, run_id: str) -> None:
        """Mark that nothing is left to do. Stopped jobs' checkpoints are deleted: they are large and no job resumes."""
        jobs = f"runs/{run_id}/jobs/"
        for key in [each.key for each in self.bucket.list_entries(jobs) if each.key.endswith(CHECKPOINT)]:
            self.bucket.delete(key)
        self.bucket.delete(f"active/{run_id}")

    def index(self, run: Run, status: str, reason: str | None) -> None:
        """Show the run in the list with this status. Doing it again changes nothing."""
        parts = [_count_down(run.created_at), run.run_id, _fit(run.dataset), f"{_rank(status)}-{status}"]
        self.bucket.write("/".join(["index", *parts, *([_fit(reason)] if reason else [])]))

    def find_entries(self, run: Run) -> str:
        """Return the prefix of the run's keys in the list."""
        return f"index/{_count_down(run.created_at)}/{run.run_id}/"

    def clear_waiting(self, run: Run, reason: str | None) -> None:
        """Remove the run's waits from the list, except the one with this reason."""
        prefix = "/".join(["index", _count_down(run.created_at), run.run_id, _fit(run.dataset), f"{_rank(WAITING)}-"])
        current = f"{prefix}{WAITING}/{_fit(reason)}" if reason else ""
        for entry in self.bucket.list_entries(prefix):
            if entry.key != current:
                self.bucket.delete(entry.key)

    def list_all(self, limit: int, after: str = "") -> tuple[list[dict[str, Any]], str | None]:
        """List runs, newest first, as {run_id, dataset, status, reason, created_at}, and where the next page begins.

        A reason is cut to fit a key; `result.json` has it in full.
        """
        found: dict[str, dict[str, Any]] = {}
        last = ""
        page = min(limit * KEYS_OF_RUN + 1, 1000)  # a listing costs by its length; the last key ends the last run
        for entry in self.bucket.list_entries("index/", after=f"index/{after}0" if after else "", page=page):
            time, run_id, dataset, status, *reason = entry.key.split("/")[1:]
            if run_id not in found and len(found) == limit:
                return list(found.values()), last
            found[run_id] = {
                "run_id": run_id,
                "dataset": unquote(dataset),
                "status": status.split("-", 1)[1],
                "reason": unquote(reason[0]) if reason else None,
                "created_at": datetime.fromtimestamp((LATEST - int(time)) / 1000, UTC).isoformat(),
            }
            last = f"{time}/{run_id}"
        return list(found.values()), None

    def find_attempts(self, settings: Settings, dataset: str, version: str) -> Iterator[Run]:
        """Find the attempts at one version of a dataset, the first one first."""
        attempt = 1
        while run := self.find(make_run_id(settings, dataset, version, attempt)):
            yield run
            attempt += 1


def _count_down(created_at: str) -> str:
    milliseconds = int(datetime.fromisoformat(created_at).timestamp() * 1000)
    return f"{LATEST - milliseconds:013d}"


def _rank(status: str) -> int:
    """Rank a status: the later of two has the greater rank.

    A run may wait before each launch. Waiting ranks above every stage, and its key is deleted once the run goes on.
    """
    if status == WAITING:
        return 8
    return ON_ITS_WAY.index(status) if status in ON_ITS_WAY else 9


def _fit(text: str) -> str:
    """Quote a text as one part of a key: no `/`, no control characters, at most MAX_INDEXED bytes."""
    safe = " !\"#$&'()*+,-.:;<=>?@[]^_`{|}~"
    while len(quoted := quote(text, safe=safe)) > MAX_INDEXED:
        text = text[: min(len(text) - 1, MAX_INDEXED)]
    return quoted
