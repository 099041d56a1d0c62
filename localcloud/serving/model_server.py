"""Serve a model archive over HTTP under SageMaker's container contract: the process behind an endpoint.

`GET /ping` answers 200 and `POST /invocations` predicts. The archive's `code/inference.py` is imported, and its four
functions are called as AWS's own handler calls them (`sagemaker_inference.transformer.Transformer`). Content types and
Accept are treated alike. An error is answered with its `message`, a line break and the traceback, under its
`status_code` or 500. AWS's handler recognises such an error by its base class. That class does not exist here, so it is
recognised by its attributes.

The network computes in onnxruntime if its answers are torch's (`engine`), and torch is not even imported where the
archive's code can do without it (`conversions`). The port is bound after every worker has
answered an image, so every connection gets an answer, and a warm one. Each of `--threads` workers predicts with one
thread: throughput is that of all cores, and an answer does not depend on their number. The price is the latency of a
single request, which more threads would shorten.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import importlib
import os
import socket
import sys
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from pathlib import Path
from types import ModuleType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FUNCTIONS = ("model_fn", "input_fn", "predict_fn", "output_fn")
TEXT_TYPES = ("application/json", "text/csv")
DEFAULT_ACCEPT = "application/json"
# Longer than a client's pool keeps an idle connection, so that no request meets a socket that is being closed.
KEEP_ALIVE_S = 120
DRAIN_S = 10
BACKLOG = 1024
QUEUE = (
    "TS_JOB_QUEUE_SIZE",
    "100",
)  # TorchServe's variable and default: beyond that, a retry is better than a late answer
FULL = {"x-local-queue": "full"}  # tells this server's own refusal from a 429 of the model's code


@dataclass(frozen=True)
class Handler:
    """A loaded model and the functions that use it."""

    module: ModuleType
    model: Any

    def transform(self, body: bytes, content_type: str | None, accept: str | None) -> Response:
        """Answer one invocation. It never raises: an error becomes a response, as in AWS's handler."""
        try:
            if not accept or accept == "*/*":
                accept = os.environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", DEFAULT_ACCEPT)
            payload = body.decode() if content_type in TEXT_TYPES else body
            data = self.module.input_fn(payload, content_type)
            result = self.module.output_fn(self.module.predict_fn(data, self.model), accept)
            content, kind = result if isinstance(result, tuple) else (result, accept)
            return Response(content, media_type=kind)
        except Exception as error:  # noqa: BLE001 - the code is the user's, and the server survives its errors
            return describe_error(error)

    def predict(self, model: Any, jpeg: bytes) -> Any:
        """Return what the handlers predict for an image with another model in the place of the loaded one."""
        return self.module.predict_fn(self.module.input_fn(jpeg, "image/jpeg"), model)


def describe_error(error: Exception) -> Response:
    """Render an error as AWS's handler does: its own status or 500, its message, then the traceback."""
    trace = "".join(traceback.format_exception(error))
    status = getattr(error, "status_code", HTTPStatus.INTERNAL_SERVER_ERROR)
    message = getattr(error, "message", None) or str(error)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        print(trace, file=sys.stderr, flush=True)
    return Response(f"{message}\n{trace}", status_code=status, media_type="text/plain")


def load_program(model_dir: Path) -> ModuleType:
    """Import the archive's code. Raises what it raises, and ImportError if it or a function of it is missing."""
    program = os.environ.get("SAGEMAKER_PROGRAM", "inference.py")
    code = model_dir / "code"
    if not (code / program).is_file():
        raise ImportError(f"The model archive holds no code/{program}. Put the four functions there.")
    sys.path.insert(0, str(code))
    module = importlib.import_module(program.removesuffix(".py"))
    missing = [name for name in FUNCTIONS if not hasattr(module, name)]
    if missing:
        raise ImportError(f"code/{program} lacks {', '.join(missing)}. The local cloud has no defaults for them.")
    return module


def load_handler(module: ModuleType, model_dir: Path) -> Handler:
    """Load the model as it is."""
    return Handler(module, module.model_fn(str(model_dir)))


def open_handler(model_dir: Path, cache: Path | None, workers: ThreadPoolExecutor, threads: int) -> Handler:
    """Load the model with the fastest engine that agrees with torch, and without torch where its code can."""
    module = load_program(model_dir)
    if cache is None:
        return load_handler(module, model_dir)
    if not hasattr(module, "assemble"):
        return speed_up(load_handler(module, model_dir), model_dir, cache, workers, threads)
    return replace_torch(module, model_dir, cache, workers, threads)


def replace_torch(
    module: ModuleType, model_dir: Path, cache: Path, workers: ThreadPoolExecutor, threads: int
) -> Handler:
    """Return a handler that needs no torch, with every worker warm; with torch where no other engine agrees with it."""
    from localcloud.serving import conversions, sessions

    place, handler = str(model_dir), Handler(module, None)
    parts = partial(module.model_fn, place), partial(module.assemble, place), handler.predict
    opened = conversions.open_converted(conversions.Program(*parts, model_dir, cache))
    print(f"engine: {opened.description}", flush=True)
    handler = replace(handler, model=module.model_fn(place) if opened.model is None else opened.model)
    list(workers.map(handler.predict, [handler.model] * threads, [sessions.draw_sample(0)] * threads))
    give_memory_back()
    return handler


def speed_up(handler: Handler, model_dir: Path, cache: Path, workers: ThreadPoolExecutor, threads: int) -> Handler:
    """Return a handler whose network computes in the faster engine, where one agrees, with every worker warm.

    Only networks of torch have another engine.
    """
    if "torch" not in sys.modules:
        return handler
    from localcloud.serving import engine  # half a second, which a model without torch does not need

    chosen = engine.choose_engine(handler.model, handler.predict, model_dir, cache)
    print(f"engine: {chosen.description}", flush=True)
    if chosen.sample is not None:
        list(workers.map(handler.predict, [chosen.model] * threads, [chosen.sample] * threads))
    give_memory_back()
    return replace(handler, model=chosen.model)


def give_memory_back() -> None:
    """Return to the system what loading the model freed: 90 MB for ResNet18 (measured). Only glibc can."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def limit_torch_threads() -> None:
    """Allow one torch thread a worker: by the variable for a later import, by the call for a torch from the fork."""
    os.environ["OMP_NUM_THREADS"] = "1"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def create_app(handler: Handler, workers: ThreadPoolExecutor, threads: int) -> Starlette:
    """Return the app with the two routes of a SageMaker container."""
    places = asyncio.Semaphore(threads + int(os.environ.get(*QUEUE)))

    async def ping(_: Request) -> Response:
        return Response()

    async def invoke(request: Request) -> Response:
        if places.locked():
            return Response("The model has no free worker, and too many requests wait already.", 429, FULL)
        async with places:
            body = await request.body()
            headers = request.headers
            arguments = (body, headers.get("content-type"), headers.get("accept"))
            return await asyncio.get_running_loop().run_in_executor(workers, handler.transform, *arguments)

    return Starlette(routes=[Route("/ping", ping), Route("/invocations", invoke, methods=["POST"])])


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="localcloud.serving.model_server", description="Serve an extracted model archive."
    )
    parser.add_argument("--model-dir", type=Path, required=True, help="holds model.pth, manifest.json and code/")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--port-file", type=Path, help="the port is written here once the model is loaded")
    parser.add_argument("--engines", type=Path, help="keeps converted networks; without it they stay in torch")
    parser.add_argument("--threads", type=int, default=1, help="predictions made at the same time")
    return parser.parse_args(argv)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. It names its protocol: only then asyncio turns off Nagle's delay (40 ms here)."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(BACKLOG)
    return listener


def main(argv: Sequence[str] | None = None) -> None:
    """Load the model, then serve until SIGTERM. Requests under way are answered first."""
    arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
    limit_torch_threads()
    workers = ThreadPoolExecutor(arguments.threads, thread_name_prefix="predict")
    handler = open_handler(arguments.model_dir, arguments.engines, workers, arguments.threads)
    app = create_app(handler, workers, arguments.threads)
    listener = listen(arguments.host, arguments.port)
    port = listener.getsockname()[1]
    print(f"serving {arguments.model_dir} on port {port} with {arguments.threads} workers", flush=True)
    if arguments.port_file:
        write_whole(arguments.port_file, str(port))
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )
    uvicorn.Server(config).run(sockets=[listener])


def write_whole(path: Path, text: str) -> None:
    """Write a file so that no reader ever sees it half written."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)


if __name__ == "__main__":
    main()
