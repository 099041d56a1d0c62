"""Talk to AWS: the only code that imports boto3, one class for each service, and AWS's errors as ours."""
