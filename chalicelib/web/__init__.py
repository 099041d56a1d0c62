"""Serve the page and describe the API."""
