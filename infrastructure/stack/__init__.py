"""Make, change and watch a CloudFormation stack, and explain its failures."""
