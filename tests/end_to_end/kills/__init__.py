"""Kill the local cloud, jobs and endpoints at random moments of small real pipelines, and judge what is left."""
