"""What several folders of tests share, the order in which they run, and which of them one process runs."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from localcloud.jobs.forkserver import SPIN
from tests.support.local_cloud import LocalCloud, run_local_cloud

# Two processes share the tests: without this, OpenMP's threads spin while they wait, on cores that the others need.
os.environ |= {**SPIN, **os.environ}
TESTS = Path(__file__).parent
# The slow ones last, so that a mistake shows soon; what is not named here comes first.
SLOW_LAST = ("histories", "client", "localcloud", "web", "end_to_end", "training", "contracts")
# What one process runs where several share the tests, by the beginning of a test's name; any other file is whole.
TOGETHER = (
    (re.compile(r"tests/end_to_end/test_documentation\.py::test_make_demo"), "the demo"),
    (re.compile(r"tests/end_to_end/kills/"), "the kills"),
    (re.compile(r"tests/(end_to_end/|web/test_journey)"), "all that uses the session's local cloud"),
    (re.compile(r"tests/infrastructure/permissions/test_roles\.py::.*?(\w+)\]$"), r"the calls of \1, told once"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=rank_item)  # a stable sort: within a folder the order stays


def pytest_collection_finish() -> None:
    """Collect garbage less often, and never look at what stays (modules, tests): that took a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def rank_item(item: pytest.Item) -> int:
    """The place of a test's folder in the order, 0 for the quick ones."""
    folder = item.path.relative_to(TESTS).parts[0]
    return SLOW_LAST.index(folder) + 1 if folder in SLOW_LAST else 0


class Grouped(LoadScopeScheduling):
    """Hands groups of tests to the processes that share them, in the tests' order."""

    def _split_scope(self, nodeid: str) -> str:
        return name_group(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Grouped:
    config.option.loadscopereorder = False  # else the largest would come first
    return Grouped(config, log)


def name_group(test: str) -> str:
    """The group of a test, named as pytest names it."""
    found = ((pattern.match(test), name) for pattern, name in TOGETHER)
    return next((match.expand(name) for match, name in found if match), test.partition("::")[0])


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """One local cloud for all the tests that go the whole way."""
    with run_local_cloud(tmp_path_factory.mktemp("cloud") / "state") as running:
        yield running
