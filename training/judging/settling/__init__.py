"""Settle what `auto` means by measuring the job's own images, before the first step."""
