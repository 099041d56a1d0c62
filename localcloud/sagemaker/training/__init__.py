"""SageMaker's training jobs: their requests, states and rules' statuses."""
