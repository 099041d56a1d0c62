"""Keep the stage's monthly cap: `ledger/YYYY-MM.json` reserves each run's worst case until the run ends.

Reservations are made before the tuning job is requested. A run that does not fit waits in the ledger's queue, in the
order in which runs were created. Later runs do not overtake, so that cheap runs cannot starve a dear one. When the
month changes, the first function to look carries the queue and the open reservations into the new ledger. Every change
is made under If-Match. The price of this: a cheap run may wait behind a dear one, and a run that spends in two months
counts in full in both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any

from chalicelib import errors
from chalicelib.aws.buckets import Bucket, to_json
from chalicelib.runs.identity import Run
from chalicelib.runs.observation import Room
from chalicelib.services import Services

TRIES = 8

Ledger = dict[str, Any]


def name_month(now: datetime) -> str:
    return now.strftime("%Y-%m")


def list_months(since: datetime, until: datetime) -> list[str]:
    """List the months from one time to another."""
    months, day = [name_month(since)], since.replace(day=1)
    while months[-1] != name_month(until) and day < until:
        day = (day + timedelta(days=32)).replace(day=1)
        months.append(name_month(day))
    return months


def sum_up(ledger: Ledger) -> float:
    """Return the dollars that a month's runs have spent or may still spend."""
    return float(sum(entry["usd"] for entry in ledger["runs"].values()))


def look_for_room(ledger: Ledger, run: Run, cap: float, active: Collection[str]) -> Room:
    """Return what the ledger says about a run: granted, refused, or waiting for something. Pure."""
    usd = float((run.cost or {})["worst_usd"])
    if run.run_id in ledger["runs"]:
        return Room(granted=True)
    if usd > cap:
        return Room(
            refused=f"The run may cost ${usd:,.2f}, and the stage's cap is ${cap:,.2f} a month: give the recipe a "
            "budget_usd, lower trials or epochs, or raise the cap (MonthlyCapUsd)."
        )
    ahead = [name for name, each in ledger["queue"].items() if tuple(each["order"]) < run.order and name in active]
    if ahead:
        return Room(obstacle=f"The run waits for its turn behind {min(ahead)}, as the month's cap is used up.")
    free = cap - sum_up(ledger)
    if usd > free:
        return Room(
            obstacle=f"The run may cost ${usd:,.2f}, and the cap of ${cap:,.2f} leaves ${max(free, 0.0):,.2f} in "
            f"{ledger['month']}: it begins when another run gives back what it did not need, or the month turns."
        )
    return Room()


def reserve(ledger: Ledger, run: Run, cap: float, active: Collection[str]) -> bool:
    """Enter a run's worst case if there is room for it. Returns whether the ledger has changed."""
    room = look_for_room(ledger, run, cap, active)
    if room.granted or room.obstacle or room.refused:
        return False
    ledger["queue"].pop(run.run_id, None)
    ledger["runs"][run.run_id] = {"usd": float((run.cost or {})["worst_usd"]), "state": "reserved"}
    return True


def enqueue(ledger: Ledger, run: Run) -> bool:
    """Put a run in the queue. Returns whether the ledger has changed."""
    if run.run_id in ledger["queue"] or run.run_id in ledger["runs"]:
        return False
    ledger["queue"][run.run_id] = {"usd": float((run.cost or {})["worst_usd"]), "order": list(run.order)}
    return True


def settle(ledger: Ledger, run_id: str, usd: float | None) -> bool:
    """Replace a run's worst case by what it has cost; if that is unknown, the worst case stays."""
    waited = ledger["queue"].pop(run_id, None)
    entry = ledger["runs"].get(run_id)
    if entry is None or entry["state"] == "settled":
        return waited is not None
    ledger["runs"][run_id] = {"usd": entry["usd"] if usd is None else usd, "state": "settled"}
    return True


def begin_month(month: str, previous: Ledger | None, active: Collection[str]) -> Ledger:
    """Return a new month's ledger, which carries over the queue and the open reservations of the month before."""
    runs, queue = (previous["runs"], previous["queue"]) if previous else ({}, {})
    return {
        "format": 1,
        "month": month,
        "runs": {name: each for name, each in runs.items() if each["state"] == "reserved" and name in active},
        "queue": {name: each for name, each in queue.items() if name in active},
    }


class Ledgers:
    """The ledgers of a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    def read(self, month: str, active: Collection[str], now: datetime) -> tuple[Ledger, str | None]:
        """Return a month's ledger and its etag, which is None if the ledger is not written yet."""
        stored = self.bucket.read(f"ledger/{month}.json")
        if stored:
            return stored.as_json(), stored.etag
        before = self.bucket.read(f"ledger/{name_month(now.replace(day=1) - timedelta(days=1))}.json")
        return begin_month(month, before.as_json() if before else None, active), None

    def change(self, month: str, active: Collection[str], now: datetime, change: Callable[[Ledger], bool]) -> None:
        """Change a ledger under If-Match, and retry if another change was faster. Raises Busy if that keeps happening.

        A new month's ledger is always written, so that what it carries over is never two months old.
        """
        for _ in range(TRIES):
            ledger, etag = self.read(month, active, now)
            if not change(ledger) and etag:
                return
            key, body = f"ledger/{month}.json", to_json(ledger)
            if self.bucket.replace(key, body, etag) if etag else self.bucket.create(key, body):
                return
        raise errors.Busy(f"The ledger of {month} is changed by others all the time: the next look tries again.")

    def exists(self, month: str) -> bool:
        return self.bucket.describe(f"ledger/{month}.json") is not None


def see_room(run: Run, services: Services) -> Room:
    """Return whether a run may begin now under the stage's cap. It may if there is no cap or its cost is unknown."""
    if not is_capped(run, services):
        return Room(granted=True)
    now, active = services.clock.now(), services.runs.list_active()
    ledger, _ = Ledgers(services.bucket).read(name_month(now), active, now)
    return look_for_room(ledger, run, services.settings.monthly_cap_usd, active)


def is_capped(run: Run, services: Services) -> bool:
    return services.settings.monthly_cap_usd > 0 and (run.cost or {}).get("worst_usd") is not None


def make_reservation(run: Run, services: Services) -> None:
    """Reserve a run's worst case. Does nothing if there is no room any more: the next look reports that."""
    now, active, cap = services.clock.now(), services.runs.list_active(), services.settings.monthly_cap_usd
    change = lambda ledger: reserve(ledger, run, cap, active)  # noqa: E731  one short name instead of a nested function
    Ledgers(services.bucket).change(name_month(now), active, now, change)


def join_queue(run: Run, services: Services) -> None:
    now, active = services.clock.now(), services.runs.list_active()
    Ledgers(services.bucket).change(name_month(now), active, now, lambda ledger: enqueue(ledger, run))


def release(run: Run, usd: float | None, services: Services) -> None:
    """Give back what a run did not need, in every month in which it ran."""
    if not is_capped(run, services):
        return
    now, active, ledgers = services.clock.now(), services.runs.list_active(), Ledgers(services.bucket)
    for month in list_months(datetime.fromisoformat(run.created_at), now):
        if ledgers.exists(month):
            ledgers.change(month, active, now, lambda ledger: settle(ledger, run.run_id, usd))
