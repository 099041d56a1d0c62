"""Do what CloudFormation does: make, change and remove the resources of a template."""
