"""Share arrays between the jobs of one machine: each is computed once, checked when it is read, and never changed."""
