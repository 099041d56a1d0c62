"""Provide one browser for the whole folder, and tabs that must close without a complaint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from tests.fakes.world import SETTINGS, World
from tests.web.browser import Tab, find_chromium, open_tab
from tests.web.server import serve_world

OpenTab = Callable[..., Tab]


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    """Drive browsers. One process can have only one at a time."""
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    started = playwright.chromium.launch(executable_path=find_chromium(), args=["--disable-gpu"])
    yield started
    started.close()


@pytest.fixture
def open_any(browser: Browser) -> Iterator[OpenTab]:
    """Open tabs. A test fails if its page left an error in the console, unless it clears `complaints`.

    Request it after `address`: fixtures close in reverse order, and a page that has lost its server complains.
    """
    tabs: list[Tab] = []

    def open_one(address: str, **options: Any) -> Tab:
        tabs.append(open_tab(browser, address, **options))
        return tabs[-1]

    yield open_one
    for tab in tabs:
        tab.page.context.close()
    assert [tab.complaints for tab in tabs if tab.complaints] == []


@pytest.fixture
def world(request: pytest.FixtureRequest) -> World:
    """Return an account in which nobody is charged, as in the local cloud; given True, one with a bill."""
    return World(replace(SETTINGS, billed=getattr(request, "param", False)))


@pytest.fixture
def address(world: World) -> Iterator[str]:
    """Return the address of the page, over a world that each test fills."""
    with serve_world(world) as served:
        yield served


@pytest.fixture
def tab(address: str, open_any: OpenTab) -> Tab:
    """Return a tab of a user who has signed in."""
    opened = open_any(address)
    opened.sign_in("ann-token")
    return opened
