"""SageMaker and SageMaker Runtime on one machine: one function per operation, behind botocore's service model."""
