"""Make one training step: in which precision, with which sums, plain or replayed as a graph of the GPU."""
