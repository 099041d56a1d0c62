"""The models that answer: list, deploy and delete them, and ask them for predictions."""
