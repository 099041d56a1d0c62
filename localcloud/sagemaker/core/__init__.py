"""What SageMaker's operations share: the cloud's state, events, tags, listings and quotas."""
