"""What the debugger, the profiler and the report cost a training."""
