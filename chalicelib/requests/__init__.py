"""Build SageMaker's requests for a run's jobs and its endpoint, as plain dictionaries."""
