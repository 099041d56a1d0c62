"""The AWS account an operator works on: credentials, quotas, prices and images."""
