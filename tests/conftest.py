"""What several folders of tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.local_cloud import LocalCloud, run_local_cloud


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """One local cloud for all the tests that go the whole way."""
    with run_local_cloud(tmp_path_factory.mktemp("cloud") / "state") as running:
        yield running
