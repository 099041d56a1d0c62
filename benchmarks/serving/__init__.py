"""What the benchmarks of serving share: the archive, the servers that are compared, the load generator."""
