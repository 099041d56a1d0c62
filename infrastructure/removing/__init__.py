"""`make destroy`: take a stage away from AWS."""
