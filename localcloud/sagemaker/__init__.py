"""SageMaker and SageMaker Runtime on one machine: a function an operation, behind botocore's own service model."""
