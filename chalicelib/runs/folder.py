"""Read and write a run's folder in the bucket, and the list of runs.

There is no database. `runs/RUN_ID/` holds the run's files, each written once by a conditional put. `active/RUN_ID`
tells the sweep where to look. The keys below `index/` carry time, run, dataset, status and reason, so that one listing
gives the list of runs; this is why a reason is cut there. The price: each status is a new key, so a run leaves up to
seven.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from itertools import groupby, islice, takewhile
from typing import Any

from chalicelib.aws.buckets import Bucket, Entry, Stored, to_json
from chalicelib.errors import RunNotFound
from chalicelib.runs.identity import RUN_ID, Run, make_run_id
from chalicelib.runs.listing import (
    APPROVABLE,
    ON_ITS_WAY,
    WAITING,
    Facts,
    Listed,
    name_entries,
    read_entry,
    write_entry,
)
from chalicelib.runs.observation import APPROVAL, RESULT, SECOND_RESULT
from chalicelib.settings import Settings

CHECKPOINT = "/checkpoint.pt"  # a stopped job leaves it; a job that completes removes it
KEYS_OF_RUN = len(ON_ITS_WAY) + 1  # in the list: one key for each stage and one for the end; few runs are approved


class Runs:
    """The runs of one bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    def find(self, run_id: str) -> Run | None:
        document = self.read_file(run_id, "run.json") if RUN_ID.fullmatch(run_id) else None
        if document is None:
            return None
        known = {name: document[name] for name in Run.__dataclass_fields__ if name in document}
        return Run(**known)

    def get(self, run_id: str) -> Run:
        """Return the run of this name. Raises RunNotFound."""
        run = self.find(run_id)
        if run is None:
            raise RunNotFound(f"There is no run {run_id[:50]!r}. GET /runs lists them.")
        return run

    def create(self, run: Run) -> bool:
        """Begin a run: its marker first, so that the sweep finds it whatever happens next. False if the run exists.

        The sweep forgets a marker without a run after a while, and may do so at this very moment: hence the second one.
        """
        self.mark_active(run)
        is_new = self.write_file(run.run_id, "run.json", asdict(run))
        if self.bucket.describe(f"active/{run.run_id}") is None:
            self.mark_active(run)
        return is_new

    def mark_active(self, run: Run) -> None:
        """Let the sweep look at a run."""
        self.bucket.write(f"active/{run.run_id}", to_json({"dataset": run.dataset}))

    def forget(self, run_id: str) -> bool:
        """Remove a marker that has no run. If the run began at this very moment, it comes back: False."""
        self.bucket.delete(f"active/{run_id}")
        if run := self.find(run_id):
            self.mark_active(run)
        return run is None

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

    def read_result(self, run_id: str) -> dict[str, Any] | None:
        """Return how a run has ended, or None while it is on its way: also again, once a person has approved it."""
        result = self.read_file(run_id, RESULT)
        if not result or result["status"] not in APPROVABLE or self.read_file(run_id, APPROVAL) is None:
            return result
        return self.read_file(run_id, SECOND_RESULT)

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

    def index(
        self, run: Run, status: str, reason: str | None, facts: Facts | None = None, *, is_approved: bool = False
    ) -> None:
        """Show the run in the list with this status. Doing it again changes nothing."""
        self.bucket.write(write_entry(run, status, reason, facts, is_approved=is_approved))

    def find_entries(self, run: Run) -> str:
        """Return the prefix of the run's keys in the list."""
        return name_entries(run)

    def clear_waiting(self, run: Run, reason: str | None, *, is_approved: bool = False) -> None:
        """Remove the run's waits from the list, except the one with this reason."""
        current = write_entry(run, WAITING, reason, is_approved=is_approved) if reason else ""
        for entry in self.bucket.list_entries(name_entries(run)):
            listed = read_entry(entry.key)
            if listed and listed.status == WAITING and entry.key != current:
                self.bucket.delete(entry.key)

    def list_all(self, limit: int, after: str = "") -> tuple[list[dict[str, Any]], str | None]:
        """List runs, newest first, as {run_id, dataset, status, reason, created_at, …}, and where the next page begins.

        A reason is cut to fit a key; `result.json` has it in full.
        """
        page = min((limit + 1) * KEYS_OF_RUN, 1000)  # a listing costs by its length; one run more shows what follows
        listed = self._list_last(f"index/{after}0" if after else "", page)
        runs = list(islice(listed, limit))
        is_end = next(listed, None) is None
        return [run.as_dict() for run in runs], None if is_end or not runs else runs[-1].place

    def list_since(self, oldest: datetime) -> list[Listed]:
        """List the runs that were created since then, newest first."""
        return list(takewhile(lambda run: run.created_at >= oldest, self._list_last()))

    def _list_last(self, after: str = "", page: int = 1000) -> Iterator[Listed]:
        """Yield each run with its last status, newest first."""
        keys = (entry.key for entry in self.bucket.list_entries("index/", after=after, page=page))
        entries = (listed for key in keys if (listed := read_entry(key)))
        for _, own in groupby(entries, key=lambda listed: listed.place):
            yield max(own, key=lambda listed: (listed.rank, listed.facts != Facts()))

    def find_attempts(self, settings: Settings, dataset: str, version: str) -> Iterator[Run]:
        """Find the attempts at one version of a dataset, the first one first."""
        attempt = 1
        while run := self.find(make_run_id(settings, dataset, version, attempt)):
            yield run
            attempt += 1
