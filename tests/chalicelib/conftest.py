"""An account in memory, and the app over it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from chalice.test import Client

from app import app, services
from tests.fakes.world import World


@pytest.fixture
def world() -> World:
    made = World()
    services.use(made.services())
    return made


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(app, stage_name="dev") as made:
        yield made
