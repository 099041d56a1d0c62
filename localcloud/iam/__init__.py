"""Identify the caller of a request, and check what its role's policies allow."""
