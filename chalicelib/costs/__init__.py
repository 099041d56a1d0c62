"""What a run costs: the estimate before it starts, the bill after it ends, and the month's ledger."""
