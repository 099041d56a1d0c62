"""Run training jobs as real processes under SageMaker's container contract."""
