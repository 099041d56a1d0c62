"""SageMaker and SageMaker Runtime on one machine: a function an operation, behind botocore's own service model."""

from __future__ import annotations

from localcloud.sagemaker import tags  # the import registers the module's operations
from localcloud.sagemaker.cloud import OPERATIONS, RUNTIME_OPERATIONS, Cloud, operation, runtime_operation

__all__ = ["OPERATIONS", "RUNTIME_OPERATIONS", "Cloud", "operation", "runtime_operation", "tags"]
