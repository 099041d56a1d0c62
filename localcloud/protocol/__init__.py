"""Speak AWS's protocols: parse, check and answer requests by botocore's service models."""
