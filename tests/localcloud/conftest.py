"""One local SageMaker for all tests of a session that need a running one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.localcloud.sagemaker_support import LocalSageMaker, local_sagemaker


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSageMaker]:
    with local_sagemaker(tmp_path_factory.mktemp("cloud")) as running:
        yield running
