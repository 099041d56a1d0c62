"""Fakes of AWS's services, as classes: what a test states without a network."""
