"""Compare model servers on this machine: ours, TorchServe 0.12 and LitServe, with one ResNet18 and one photo of 60 kB.

Every server runs the archive's own four functions. The peers are first tried with {1, cores} workers of {1, cores}
threads, and go on with the best at 8 connections. Then all are asked in turns, three times, at 1, 8 and 32 connections.
"Same engine" is torch in fp32 for all; "best engine" is the one that each server chooses: onnxruntime for ours. Rows
without a claim are shown beside them: LitServe with our engine, ours in int8, and ours behind the route.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.results import claim, spread, write_result
from benchmarks.serving.archive import encode_photo, write_int8, write_resnet
from benchmarks.serving.endpoint import start_route
from benchmarks.serving.generator import generate
from benchmarks.serving.servers import Running, start_litserve, start_ours, start_torchserve, write_bodies

CONNECTIONS = (1, 8, 32)
REPEATS, SECONDS, WARM_SECONDS, TRY_SECONDS = 3, 4.0, 1.0, 3.0
CORES = os.cpu_count() or 1
OURS, TORCH, INT8, ROUTE = "ours, onnxruntime", "ours, torch", "ours, int8", "ours through the route"
TORCHSERVE, LITSERVE, LITSERVE_ONNX = "TorchServe", "LitServe", "LitServe, onnxruntime"
PEERS = (TORCHSERVE, LITSERVE)
Start = Callable[[Path, int, int], Running]
Samples = dict[tuple[str, int], list[dict[str, float]]]


def measure(server: Running, connections: int, seconds: float) -> dict[str, float]:
    """Return what one load of the server gave: requests a second, latencies, and who used how much of the processor."""
    generate(server.url, server.body, connections, min(seconds, WARM_SECONDS), server.headers)
    began, used, busy = time.perf_counter(), server.measure_processor(), measure_busy()
    told = generate(server.url, server.body, connections, seconds, server.headers)
    passed, used, busy = time.perf_counter() - began, server.measure_processor() - used, measure_busy() - busy
    if told["others"] or not told["milliseconds"]:
        raise SystemExit(f"{server.url} answered {told['others']} at {connections} connections")
    latencies = spread(told["milliseconds"])
    return {
        "requests_a_second": len(told["milliseconds"]) / told["seconds"],
        "median_ms": latencies["median"],
        "p99_ms": latencies["p99"],
        "processor_ms_a_request": used * 1000 / len(told["milliseconds"]),
        "server_cores": used / passed,
        "generator_cores": told["processor_seconds"] / told["seconds"],
        "cores_of_others": (busy - used - told["processor_seconds"]) / passed,
    }


def measure_busy() -> float:
    """Return the seconds that all cores together have worked, for whomever."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def choose_best(name: str, start: Start, folder: Path) -> tuple[int, int, list[dict[str, Any]]]:
    """Return a peer's best workers and threads at 8 connections, and what was tried."""
    tried = []
    for workers, threads in product((1, CORES), repeat=2):
        server = start(folder / f"{name}-{workers}-{threads}", workers, threads)
        try:
            rate = measure(server, 8, TRY_SECONDS)["requests_a_second"]
        finally:
            server.end()
        tried.append({"workers": workers, "threads": threads, "requests_a_second": rate})
        print(f"{name}, {workers} workers of {threads} threads: {rate:.1f} requests/s", flush=True)
    best = max(tried, key=lambda each: each["requests_a_second"])
    return best["workers"], best["threads"], tried


def compare(servers: dict[str, Running], seconds: float, samples: Samples) -> None:
    """Load all servers in turns, once. Adds a sample of each at each number of connections."""
    for connections, (name, server) in product(CONNECTIONS, servers.items()):
        samples.setdefault((name, connections), []).append(measure(server, connections, seconds))
        print(name, connections, samples[name, connections][-1], flush=True)


def summarize(samples: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return the median of each figure over the repeats, with the lowest and the highest."""
    return {
        figure: {
            "median": statistics.median(each[figure] for each in samples),
            "min": min(each[figure] for each in samples),
            "max": max(each[figure] for each in samples),
        }
        for figure in samples[0]
    }


def compare_answers(one: Running, other: Running, folder: Path) -> dict[str, float]:
    """Return how two servers agree on 32 photos: how often the best class is the same, and the largest difference."""
    same, difference = 0, 0.0
    for seed in range(200, 232):
        photo = folder / "agreement.jpg"
        photo.write_bytes(encode_photo(seed))
        ours, theirs = (ask(server, photo.read_bytes()) for server in (one, other))
        same += max(ours, key=ours.__getitem__) == max(theirs, key=theirs.__getitem__)
        difference = max(difference, *(abs(ours[name] - theirs[name]) for name in ours))
    return {"same_best_class": same / 32, "largest_difference_of_a_probability": difference}


def ask(server: Running, jpeg: bytes) -> dict[str, float]:
    """Return the probabilities that a server gives to a photo, by class."""
    answer = httpx.post(server.url, content=jpeg, headers=dict(server.headers), timeout=30).raise_for_status().json()
    return {each["class"]: each["probability"] for each in answer["results"][0]["predictions"]}


def start_all(folder: Path, stack: ExitStack) -> tuple[dict[str, Running], dict[str, Any]]:
    """Start every server that is compared. Returns them by name, and what was tried to find the peers' best."""
    model, engines = write_resnet(folder / "model"), folder / "engines"
    plain, form = write_bodies(folder, encode_photo(1))

    def keep(server: Running) -> Running:
        stack.callback(server.end)
        return server

    tried: dict[str, Any] = {}
    starts: dict[str, Start] = {
        TORCHSERVE: partial(start_torchserve, model, plain),
        LITSERVE: partial(start_litserve, model, form),
    }
    best = {}
    for name, start in starts.items():
        *best[name], tried[name] = choose_best(name, start, folder)
    servers = {name: keep(start(folder / name, *best[name])) for name, start in starts.items()}
    servers[OURS] = keep(start_ours(model, plain, folder / "ours", CORES, engines))
    servers[TORCH] = keep(start_ours(model, plain, folder / "torch", CORES))
    (converted,) = engines.glob("*.onnx")
    int8 = write_int8(model, converted, folder / "int8")
    servers[INT8] = keep(start_ours(int8, plain, folder / "ours-int8", CORES, program="int8.py"))
    servers[LITSERVE_ONNX] = keep(start_litserve(model, form, folder / "litserve-onnx", CORES, 1, engines))
    servers[ROUTE] = stack.enter_context(start_route(model, plain, folder))
    return servers, tried


def state_claims(
    samples: Samples, memory: dict[str, float], agreement: dict[str, float], tried: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the claims, then every row."""
    rows = {key: summarize(each) for key, each in samples.items()}
    rates = {key: each["requests_a_second"]["median"] for key, each in rows.items()}
    lasts = {key: each["p99_ms"]["median"] for key, each in rows.items()}
    work = {key: each["processor_ms_a_request"]["median"] for key, each in rows.items()}
    thriftiest = min(PEERS, key=lambda name: work[name, 8])
    fastest = max(PEERS, key=lambda name: rates[name, 8])
    calmest = min(PEERS, key=lambda name: lasts[name, 8])
    return [
        over("best engine, 8 connections, requests a second", OURS, fastest, rates, "/s", at_least=1.5),
        over("best engine, 8 connections, p99", OURS, calmest, lasts, "ms", at_most=1),
        over("best engine, 8 connections, processor time a request", OURS, thriftiest, work, "ms"),
        over("processor time a request, all of the route over its endpoint alone", ROUTE, OURS, work, "ms"),
        over("same engine (torch), 8 connections, requests a second", TORCH, fastest, rates, "/s"),
        over("same engine (onnxruntime), 8 connections, requests a second", OURS, LITSERVE_ONNX, rates, "/s"),
        over(
            "memory under load",
            OURS,
            TORCHSERVE,
            {(name, 8): each for name, each in memory.items()},
            "MiB",
            at_most=0.5,
        ),
        claim("repeats", len(samples[OURS, 8]), "turns"),
        claim("other programs, on average", average_others(samples), "cores"),
        claim("int8: agreement of the best class with fp32", agreement["same_best_class"], "", **agreement),
        *(
            claim(f"{name}, {connections} connections", rates[name, connections], "requests/s", **row)
            for (name, connections), row in rows.items()
        ),
        claim("peers' configurations tried", sum(map(len, tried.values())), "", **tried),
    ]


def average_others(samples: Samples) -> float:
    """Return the cores that programs used which are neither server nor generator: a quiet machine has almost none."""
    return statistics.mean(each["cores_of_others"] for row in samples.values() for each in row)


def over(
    what: str, ours: str, theirs: str, figures: dict[tuple[str, int], float], unit: str, **bound: float
) -> dict[str, Any]:
    """Return the claim about our figure at 8 connections over a peer's."""
    one, other = figures[ours, 8], figures[theirs, 8]
    told = {"peer": theirs, "ours": f"{one:.1f} {unit}", "theirs": f"{other:.1f} {unit}"}
    return claim(what, one / other, "x", **bound, **told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short turn, without a result file")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        servers, tried = start_all(folder, stack)
        agreement, samples = compare_answers(servers[OURS], servers[INT8], folder), Samples()
        for _ in range(1 if quick else REPEATS):  # each time all is written again: who is cut short has what there is
            compare(servers, 1.0 if quick else SECONDS, samples)
            memory = {name: server.measure_memory() for name, server in servers.items()}
            claims = state_claims(samples, memory, agreement, tried)
            if not quick:
                write_result("serving", claims, packages=["torch", "onnxruntime", "starlette", "uvicorn"])
    if quick:
        print(json.dumps([{name: each[name] for name in ("claim", "measured", "holds")} for each in claims], indent=1))


if __name__ == "__main__":
    main()
