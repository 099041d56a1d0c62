"""Draw the picture of the rooms from the tables of docs/architecture.md."""
