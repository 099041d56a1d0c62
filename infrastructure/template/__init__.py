"""Build the CloudFormation template of the whole app."""
