"""Measure the local cloud under load: at Lambda's limit of concurrent executions, and at twice the limit.

Clients predict, upload images and ask for the status, five minutes at each level; `--quick` takes 20 seconds. A client
that is told to come back waits a second at most, so the pressure stays. Beside them one client asks for `GET /runs`;
its latency is what is claimed. The quick form writes no result.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.local.endpoint import deploy_model
from benchmarks.results import claim, spread, write_result
from localcloud.functions.places import DEFAULT_LIMIT
from tests.support.local_cloud import LocalCloud, run_local_cloud
from tests.support.pictures import draw_test_picture

SECONDS, QUICK_SECONDS = 300.0, 20.0
PICTURE = {"Content-Type": "image/png"}
STATUS_PAUSE = 0.1
MOST_WAIT = 1.0
EXPECTED = (429, 503)


@dataclass
class Level:
    """What one level of load was answered: statuses by kind of request, and the faults."""

    clients: int
    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    listing: list[float] = field(default_factory=list)  # milliseconds of GET /runs
    memory: list[float] = field(default_factory=list)  # MiB, every tenth of the time

    def note(self, kind: str, answer: httpx.Response) -> float:
        """Count an answer, and return the seconds to wait before the next request."""
        self.statuses[f"{kind} {answer.status_code}"] += 1
        if 200 <= answer.status_code < 300:
            return 0.0
        if answer.status_code not in EXPECTED or "retry-after" not in answer.headers:
            self.faults.append(f"{kind} {answer.status_code}: {answer.text[:200]}")
        return min(float(answer.headers.get("retry-after", MOST_WAIT)), MOST_WAIT)


async def work(client: httpx.AsyncClient, level: Level, until: float, dice: random.Random) -> None:
    """Be one client: predictions for the most part, sometimes an upload or the run's status."""
    picture = draw_test_picture("red")
    while time.monotonic() < until:
        kind = dice.choices(["predict", "upload", "status"], [8, 1, 1])[0]
        try:
            if kind == "predict":
                answer = await client.post("/models/served/predict", content=picture, headers=PICTURE)
            elif kind == "upload":
                answer = await upload(client, picture)
            else:
                answer = await client.get("/models/served")
        except httpx.HTTPError as error:
            level.faults.append(f"{kind}: {type(error).__name__}: {error}")
            await asyncio.sleep(MOST_WAIT)
            continue
        if pause := level.note(kind, answer):
            await asyncio.sleep(pause)


async def upload(client: httpx.AsyncClient, picture: bytes) -> httpx.Response:
    """Upload an image, and return the answer that matters: the route's refusal, or the bucket's answer."""
    answer = await client.post("/uploads", json={"kind": "image", "size": len(picture)})
    if answer.status_code != 201:
        return answer
    async with httpx.AsyncClient(timeout=60) as bucket:
        return await bucket.put(answer.json()["url"], content=picture)


async def watch(client: httpx.AsyncClient, level: Level, until: float) -> None:
    """Ask for the runs again and again."""
    while time.monotonic() < until:
        started = time.perf_counter()
        answer = await client.get("/runs")
        level.listing.append((time.perf_counter() - started) * 1000)
        level.note("list", answer)
        await asyncio.sleep(STATUS_PAUSE)


async def weigh(cloud: LocalCloud, level: Level, seconds: float) -> None:
    """Measure the memory ten times."""
    for _ in range(10):
        await asyncio.sleep(seconds / 11)
        level.memory.append(await asyncio.to_thread(measure_memory, cloud))


def measure_memory(cloud: LocalCloud) -> float:
    """Return the proportional set size in MiB of the cloud's own process."""
    return float(cloud.list_processes()[0].memory_full_info().pss) / 2**20


async def press(cloud: LocalCloud, clients: int, seconds: float) -> Level:
    """Put one level of load on the cloud."""
    level, until = Level(clients), time.monotonic() + seconds
    settings: dict[str, Any] = {
        "base_url": cloud.variables["API_URL"],
        "headers": {"Authorization": f"Bearer {cloud.variables['API_TOKEN']}"},
        "timeout": 60,
        "limits": httpx.Limits(max_connections=None),
    }
    async with httpx.AsyncClient(**settings) as client, httpx.AsyncClient(**settings) as watcher:
        tasks = [work(client, level, until, random.Random(number)) for number in range(clients)]
        await asyncio.gather(*tasks, watch(watcher, level, until), weigh(cloud, level, seconds))
    return level


def list_claims(level: Level, title: str, seconds: float) -> list[dict[str, Any]]:
    """List what is claimed of one level."""
    served = sum(count for name, count in level.statuses.items() if name.rpartition(" ")[2].startswith("2"))
    third = max(len(level.memory) // 3, 1)
    growth = sum(level.memory[-third:]) / third - sum(level.memory[:third]) / third
    listing = spread(level.listing)
    return [
        claim(
            f"answers other than 2xx, 429 and 503 with Retry-After, {title}",
            len(level.faults),
            "answers",
            at_most=0,
            statuses=dict(sorted(level.statuses.items())),
            faults=level.faults[:10],
        ),
        claim(f"GET /runs, 99th percentile, {title}", listing["p99"], "ms", at_most=1000, **listing),
        claim(f"growth of the cloud's own memory, {title}", growth, "MiB", at_most=30, measured_mib=level.memory),
        claim(f"requests served, {title}", served / seconds, "a second"),
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Put the local cloud under load.")
    parser.add_argument("--quick", action="store_true", help="20 seconds in all, and no result file")
    is_quick = parser.parse_args([] if arguments is None else arguments).quick
    seconds = QUICK_SECONDS / 2 if is_quick else SECONDS
    claims = []
    with tempfile.TemporaryDirectory() as folder, run_local_cloud(Path(folder) / "state") as cloud:
        deploy_model(cloud)
        asyncio.run(press(cloud, DEFAULT_LIMIT, seconds / 4))  # what is made once is made
        for clients, title in ((DEFAULT_LIMIT, "at the limit"), (2 * DEFAULT_LIMIT, "at twice the limit")):
            claims += list_claims(asyncio.run(press(cloud, clients, seconds)), title, seconds)
    if is_quick:
        print(json.dumps(claims, indent=2))
    else:
        write_result("load", claims, ["starlette", "uvicorn", "httpx"])


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
