"""Start one local SageMaker for all tests of a module that need a running one.

It cannot serve a session: moto's state is global in the process, and another module's origin begins with its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.localcloud.sagemaker_support import LocalSageMaker, local_sagemaker


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSageMaker]:
    with local_sagemaker(tmp_path_factory.mktemp("cloud")) as running:
        yield running
