"""SageMaker's models, endpoint configs and endpoints, and their invocations."""
