"""Run endpoints as real processes, and send them their traffic."""
