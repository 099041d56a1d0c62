"""What every room of the local cloud uses: clock, store, addresses, logs, transfers and planned faults."""
