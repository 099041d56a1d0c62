"""Start everything, print what to type, wait for Ctrl-C, stop everything: `make up`.

Importing moto takes a second, so what does not need it begins earlier: the ports, the lock, the template and the
tarball. The last two are built by processes of their own, because building the template imports the app, and this
package may not import `infrastructure`.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localcloud.common.addresses import CannotStart, Place, enter, listen, write_env
from localcloud.common.durable import make_private_folder
from localcloud.common.keys import TOKEN_NAME, keep_tokens
from localcloud.functions.environments import FunctionHost
from localcloud.functions.host import SELDOM
from localcloud.stacks.provisioning import TemplateError

PROJECT = Path(__file__).resolve().parents[2]
RESOURCES = PROJECT / "infrastructure" / "template" / "resources" / "functions.json"
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # malloc.h
BANNER = """
  Whippet is up, on this machine alone.

    AWS API   {aws_url}   (every service: S3, SageMaker, SQS, …)
    App       {api_url}
    Page      {page}
    State     {home}

  In another terminal, with this folder's own keys, which only you can read:

    . {env}
    aws s3 cp dogs.zip s3://$BUCKET/datasets/
    curl -H "Authorization: Bearer $API_TOKEN" $API_URL/runs
    curl -H "Authorization: Bearer $API_TOKEN" -H 'Content-Type: image/jpeg' \\
         --data-binary @dog.jpg $API_URL/models/dogs/predict

  Ready after {seconds:.1f} s. Ctrl-C ends it; what it has made stays and is there at the next start.
"""


def run_up(place: Place, *, until_eof: bool = False) -> int:
    """Run the local cloud until SIGINT, SIGTERM or, if asked to, the end of standard input. Raises CannotStart."""
    began = time.monotonic()
    ended = threading.Event()
    os.umask(0o077)  # whatever this process and its children write is their owner's alone
    make_private_folder(place.home)
    with hold_lock(place):
        place.env_file.unlink(missing_ok=True)
        listeners = listen(place.aws_port, "AWS_PORT"), listen(place.port, "PORT")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ended.set())
        enter(place)
        raise_limits()
        tame_malloc()
        log_to(place.home / "localcloud.log")
        template_builder = build_aside(
            place, "infrastructure.template.build", "--stage", "local", "--cache", str(place.home / "template")
        )
        source_builder = build_aside(place, "infrastructure.packaging.source", "--to", str(place.home / "source"))
        host = FunctionHost(PROJECT, "app", read_variables(RESOURCES), logging.getLogger("app").info)
        host.start()

        gc.disable()  # moto creates very many lasting objects; collecting among them takes a tenth of the start
        from localcloud.server.hosting import (
            Hosting,  # importing moto takes a second; meanwhile another core imports the app
        )

        hosting = Hosting(place, host)
        gc.freeze()
        gc.enable()
        gc.set_threshold(*SELDOM)
        try:
            stack = hosting.start(listeners, read_path(template_builder), read_path(source_builder))
            token = keep_tokens(place.home)[TOKEN_NAME]
            write_env(place, stack.outputs["BucketName"], token)
            print(describe(place, time.monotonic() - began, token if sys.stdout.isatty() else None), flush=True)
            if until_eof:
                threading.Thread(target=end_at_eof, args=(ended,), daemon=True).start()
            hosting.warm()
            ended.wait()
        except TemplateError as error:
            raise CannotStart(str(error)) from error
        finally:
            place.env_file.unlink(missing_ok=True)
            hosting.close()
    return 0


def end_at_eof(ended: threading.Event) -> None:
    """Set `ended` when standard input closes: a program that started the cloud only has to close it, or to end."""
    sys.stdin.read()
    ended.set()


@contextmanager
def hold_lock(place: Place) -> Iterator[None]:
    """Lock the folder for one cloud at a time; the lock ends with the process. Raises CannotStart where it is held."""
    with place.lock_file.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(f"A local cloud is up already on {place.home}. End it, or set LOCALCLOUD_HOME.") from None
        os.set_inheritable(file.fileno(), False)
        yield


def is_up(place: Place) -> bool:
    """Return whether a cloud holds the folder's lock."""
    if not place.lock_file.exists():
        return False
    with place.lock_file.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def build_aside(place: Place, module: str, *arguments: str) -> subprocess.Popen[str]:
    """Start one of the project's builders, which prints the path of what it built."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=(place.home / f"{module}.log").open("w"),
        text=True,
        start_new_session=True,
    )


def read_path(builder: subprocess.Popen[str]) -> Path:
    """Return the path that a builder printed. Raises CannotStart where the builder failed."""
    printed, _ = builder.communicate()
    if builder.returncode:
        raise CannotStart("The app cannot be packed; the logs infrastructure.*.log in the state's folder say why.")
    return Path(printed.strip())


def read_variables(resources: Path) -> dict[str, str]:
    """Return the functions' common plain-text variables and the stage: what the app may read when it is imported."""
    common = json.loads(resources.read_text()).get("Globals", {}).get("Function", {}).get("Environment", {})
    plain = {name: value for name, value in common.get("Variables", {}).items() if isinstance(value, str)}
    return plain | {"STAGE": "local"}


def raise_limits() -> None:
    """Raise the limit of open files to the system's maximum: connections, processes and open bodies all need one."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def tame_malloc() -> None:
    """Make glibc return the memory of large bodies to the system after use. By default it raises its threshold to their
    size and keeps a heap for each thread: after a few uploaded models this process held 400 MB instead of 240."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 20)
        libc.mallopt(M_ARENA_MAX, 2)


def log_to(path: Path) -> None:
    logging.basicConfig(filename=path, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("botocore", "boto3", "urllib3", "werkzeug", "httpx", "httpcore", "s3transfer"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def describe(place: Place, seconds: float, token: str | None) -> str:
    """Return what is printed. With a token the page's address signs in: its fragment never leaves the browser."""
    home = place.home.relative_to(Path.cwd()) if place.home.is_relative_to(Path.cwd()) else place.home
    page = f"{place.api_url}/#token={token}" if token else f"{place.api_url}/   (for a browser; it asks for $API_TOKEN)"
    return BANNER.format(
        aws_url=place.aws_url, api_url=place.api_url, page=page, home=home, env=home / "env", seconds=seconds
    )
