"""The stack's template and the archives that are published beside it."""
