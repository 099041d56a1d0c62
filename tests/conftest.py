"""What several folders of tests share, the order in which they run, and which of them one process runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.local_cloud import LocalCloud, run_local_cloud

TESTS = Path(__file__).parent
# The slow ones last, so that a mistake shows soon; what is not named here comes first.
SLOW_LAST = ("localcloud", "notebooks", "web", "end_to_end", "training", "contracts")
IN_THE_CLOUD = ("test_journey.py", "test_train_and_deploy.py")  # beside all of end_to_end


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=rank_item)  # a stable sort: within a folder the order stays
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(name_group(item)))


def rank_item(item: pytest.Item) -> int:
    """The place of a test's folder in the order, 0 for the quick ones."""
    folder = find_folder(item)
    return SLOW_LAST.index(folder) + 1 if folder in SLOW_LAST else 0


def name_group(item: pytest.Item) -> str:
    """What stays together where several processes share the tests: a file, and all that uses the one local cloud."""
    is_in_cloud = find_folder(item) == "end_to_end" or item.path.name in IN_THE_CLOUD
    return "cloud" if is_in_cloud else str(item.path.relative_to(TESTS))


def find_folder(item: pytest.Item) -> str:
    return item.path.relative_to(TESTS).parts[0]


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """One local cloud for all the tests that go the whole way."""
    with run_local_cloud(tmp_path_factory.mktemp("cloud") / "state") as running:
        yield running
