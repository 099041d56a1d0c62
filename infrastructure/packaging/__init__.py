"""Pack what a deployment sends to AWS: the functions, the training program and the template."""
