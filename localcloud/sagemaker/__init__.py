"""SageMaker and SageMaker Runtime on one machine: a function an operation, behind botocore's own service model.

Importing the package imports every module of operations, and each registers its own.
"""

from __future__ import annotations

from localcloud.sagemaker import endpoint_configs, endpoints, invocations, models, tags, training_jobs, tuning_jobs
from localcloud.sagemaker.cloud import OPERATIONS, RUNTIME_OPERATIONS, Cloud, operation, runtime_operation

__all__ = [
    "OPERATIONS",
    "RUNTIME_OPERATIONS",
    "Cloud",
    "endpoint_configs",
    "endpoints",
    "invocations",
    "models",
    "operation",
    "runtime_operation",
    "tags",
    "training_jobs",
    "tuning_jobs",
]
