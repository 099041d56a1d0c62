"""`make deploy`: make or update a stage on AWS."""
