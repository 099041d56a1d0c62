"""What several folders of tests share, and the order in which they run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.local_cloud import LocalCloud, run_local_cloud

# The slow ones last, so that a mistake shows soon; what is not named here comes first.
SLOW_LAST = ("localcloud", "training", "contracts", "notebooks", "web", "end_to_end")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=rank_item)  # a stable sort: within a folder the order stays


def rank_item(item: pytest.Item) -> int:
    """The place of a test's folder in the order, 0 for the quick ones."""
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    return SLOW_LAST.index(folder) + 1 if folder in SLOW_LAST else 0


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """One local cloud for all the tests that go the whole way."""
    with run_local_cloud(tmp_path_factory.mktemp("cloud") / "state") as running:
        yield running
