"""SageMaker's tuning jobs: their requests, their progress, and the search for hyperparameters."""
