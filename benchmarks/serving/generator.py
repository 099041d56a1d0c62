"""Send one request again and again over a number of connections, and tell what came back as JSON.

It runs as a process of its own, so that its processor time is known and no server shares its interpreter:
`python -m benchmarks.serving.generator URL BODY CONNECTIONS SECONDS [NAME:VALUE …]`. BODY is a file.
Each connection stays open, and sends the next request when it has read the answer.
"""

from __future__ import annotations

import asyncio
import json
import re
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass
class Tally:
    """The milliseconds of the answers with status 200, and how often each other status came."""

    milliseconds: list[float] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


def compose(url: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """Return a POST request."""
    parts = urlsplit(url)
    named = {"Host": parts.netloc, "Content-Length": str(len(body)), **headers}
    lines = [f"POST {parts.path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def read_answer(reader: asyncio.StreamReader) -> int:
    """Read an answer to its end. Returns its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    found = LENGTH.search(head)
    if found is None:
        raise SystemExit(f"an answer without Content-Length: {head[:300]!r}")
    await reader.readexactly(int(found[1]))
    return int(head.split(b" ", 2)[1])


async def send(url: str, request: bytes, until: float, tally: Tally) -> None:
    """Be one connection."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    while time.perf_counter() < until:
        started = time.perf_counter()
        writer.write(request)
        status = await read_answer(reader)
        if status == 200:
            tally.milliseconds.append((time.perf_counter() - started) * 1000)
        else:
            tally.others[str(status)] += 1
    writer.close()


async def press(url: str, request: bytes, connections: int, seconds: float) -> dict[str, Any]:
    """Send over all connections at once, and return what was measured."""
    tally, began, used = Tally(), time.perf_counter(), measure_processor()
    await asyncio.gather(*(send(url, request, began + seconds, tally) for _ in range(connections)))
    return {
        "seconds": time.perf_counter() - began,
        "processor_seconds": measure_processor() - used,
        "milliseconds": tally.milliseconds,
        "others": tally.others,
    }


def measure_processor() -> float:
    """Return the processor seconds that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def generate(
    url: str, body: Path, connections: int, seconds: float, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run the generator in a process of its own, and return what it measured."""
    told = [f"{name}:{value}" for name, value in (headers or {}).items()]
    command = [sys.executable, "-m", "benchmarks.serving.generator", url, str(body), str(connections), str(seconds)]
    ended = subprocess.run([*command, *told], cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"the load generator failed on {url}: {ended.stderr[-500:]}")
    measured: dict[str, Any] = json.loads(ended.stdout)
    return measured


def main() -> None:
    url, body, connections, seconds, *told = sys.argv[1:]
    request = compose(url, Path(body).read_bytes(), dict(each.split(":", 1) for each in told))
    print(json.dumps(asyncio.run(press(url, request, int(connections), float(seconds)))))


if __name__ == "__main__":
    main()
