"""Serve the app behind a stand-in for API Gateway, on its own port, over an account in memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import uvicorn

from app import app, services
from localcloud.common.addresses import listen
from localcloud.functions.gateway import Gateway
from tests.fakes.world import World
from tests.support.local_cloud import find_free_port, wait_until

STAGE = "api"


@contextmanager
def serve_world(world: World) -> Iterator[str]:
    """Serve the app over a world; yield the address of its page."""
    services.use(world.services())
    paths = {path: {method.lower(): {} for method in methods} for path, methods in app.routes.items()}
    body = {"paths": paths, "x-amazon-apigateway-binary-media-types": app.api.binary_types}
    with ThreadPoolExecutor(1) as pool:  # Chalice handles one request at a time, as a Lambda function does

        async def invoke(_function: str, event: Any, _request_id: str) -> Any:
            return await asyncio.get_running_loop().run_in_executor(pool, app, event, None)

        gateway = Gateway(body, stage=STAGE, function="api", invoke=invoke)
        port = find_free_port()
        server = uvicorn.Server(uvicorn.Config(gateway, log_level="error", lifespan="off"))
        listener = listen(port, "PORT")
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            wait_until(lambda: server.started or None, within=10, what="the page's server", every=0.01)
            yield f"http://127.0.0.1:{port}/{STAGE}/"
        finally:
            server.should_exit = True
            thread.join()
