"""Test who may call the local cloud's AWS API."""
