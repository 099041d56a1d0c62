"""Measure what pre-flight costs for a dataset in S3: time, memory, and how much of the archive is transferred.

The dataset of 100,000 images and 1 GB is held to bounds; 1,000, 10,000 and 1,000,000 show how the costs grow. The zip
lies in the local cloud's S3, behind a proxy that counts what is sent. Who looks is a fresh interpreter with what the
Lambda's archive holds, and nothing else. The peer is Python's zipfile, which reads the same directory from a local file
and judges nothing.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.control.lambda_function import unpack_package
from benchmarks.results import claim, write_result
from tests.support.layouts import picture
from tests.support.local_cloud import LocalCloud, run_local_cloud

IMAGES, CLASSES, BYTES = 100_000, 133, 1_000_000_000
GROWTH = {1_000: 10_000, 10_000: 10_000, IMAGES: BYTES // IMAGES, 1_000_000: 300}  # images, and the bytes of each
TRIES = 3
PEER = "import zipfile; look = lambda _: zipfile.ZipFile(sys.argv[1])"
OURS = """
import os
sys.path = [each for each in sys.path if "site-packages" not in each]
from chalicelib.aws.clients import connect
from chalicelib.aws.buckets import Bucket
from chalicelib.datasets.contents import DatasetLimits
from chalicelib.datasets.preflight import inspect_dataset
bucket = Bucket(connect("s3"), os.environ["BUCKET"])
bucket.describe("a first request, which loads what every function has loaded")
def look(path):
    with bucket.open(f"runs/{os.path.basename(path)}") as archive:
        report = inspect_dataset(archive, DatasetLimits(max_images=2_000_000))
    assert report.ok and report.images == int(sys.argv[2]), report.problems
"""
MEASURE = """
import json, sys, time
{setup}
def peak():  # of this program alone: getrusage's figure is inherited from the parent
    status = dict(line.split(":") for line in open("/proc/self/status"))
    return int(status["VmHWM"].split()[0]) / 1024
before, started = peak(), time.perf_counter()
look(sys.argv[1])
print(json.dumps({{"seconds": time.perf_counter() - started, "megabytes": peak(), "before": before}}))
"""


class CountingProxy:
    """Forward connections to a port of this machine, and count the bytes that come back."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.received = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_counted: bool) -> None:
        try:
            while chunk := source.recv(65_536):
                self.received += len(chunk) * is_counted
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            sink.close()

    def close(self) -> None:
        self._listener.close()


def write_dataset(path: Path, images: int, size: int) -> None:
    """Write a zip of images of that many bytes each, in as many classes as the dogs have."""
    noise = random.Random(0)
    bodies = [body + noise.randbytes(max(0, size - len(body))) for body in (picture("jpg", seed) for seed in range(20))]
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(images):
            split = "test" if number % 10 == 0 else "train"
            name = f"dogImages/{split}/{number * CLASSES // images:03d}.Some_breed/Some_breed_{number:07d}.jpg"
            archive.writestr(name, bodies[number % len(bodies)])


def measure(setup: str, path: Path, images: int, variables: dict[str, str], home: Path) -> dict[str, float]:
    """Return the seconds and megabytes of one look, in a fresh interpreter that runs in a folder."""
    command = [sys.executable, "-c", MEASURE.format(setup=setup), str(path), str(images)]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | variables, cwd=home)
    if result.returncode:
        raise SystemExit(result.stderr)
    return dict(json.loads(result.stdout))


@contextmanager
def store(cloud: LocalCloud, path: Path) -> Iterator[None]:
    """Keep the file in the cloud's bucket while the block runs, where a run's input belongs."""
    key = f"runs/{path.name}"
    cloud.s3.upload_file(str(path), cloud.bucket, key)
    yield
    cloud.s3.delete_object(Bucket=cloud.bucket, Key=key)


def look_from_afar(cloud: LocalCloud, path: Path, images: int, task: Path) -> dict[str, float]:
    """Return the fastest of a few looks at a zip in S3 by the function's code, with the bytes that it received."""
    runs = []
    for _ in range(TRIES):
        proxy = CountingProxy(cloud.aws_port)
        address = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"}
        runs.append(measure(OURS, path, images, cloud.variables | address, task) | {"sent": proxy.received})
        proxy.close()
    return min(runs, key=lambda run: run["seconds"])


def measure_size(cloud: LocalCloud, folder: Path, images: int, task: Path) -> dict[str, Any]:
    path = folder / f"{images}.zip"
    write_dataset(path, images, GROWTH[images])
    with store(cloud, path):
        ours = look_from_afar(cloud, path, images, task)
    peer = min((measure(PEER, path, images, {}, folder) for _ in range(TRIES)), key=lambda run: run["seconds"])
    size = path.stat().st_size
    path.unlink()
    return ours | {"images": images, "bytes": size, "zipfile_seconds": peer["seconds"], "share": ours["sent"] / size}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, run_local_cloud(Path(folder) / "state") as cloud:
        task, _ = unpack_package(Path(folder))
        sizes = {images: measure_size(cloud, Path(folder), images, task) for images in GROWTH}
    held = sizes[IMAGES]
    what = f"pre-flight of {IMAGES:,} images, {held['bytes'] / 1e9:.2f} GB in S3"
    grown = [
        claim(f"pre-flight of {images:,} images", one["seconds"], "s", **one)
        for images, one in sizes.items()
        if images != IMAGES
    ]
    seconds = claim(what, held["seconds"], "s", at_most=1.5, zipfile_on_a_local_file=held["zipfile_seconds"])
    memory = claim(f"{what}: memory, interpreter and boto3 included", held["megabytes"], "MB", at_most=128)
    share = claim(f"{what}: share of its bytes that was sent", 100 * held["share"], "%", at_most=2)
    write_result("preflight", [seconds, memory | {"before": held["before"]}, share, *grown], ("boto3",))


if __name__ == "__main__":
    main()
