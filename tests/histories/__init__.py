"""Simulated histories of the control plane: functions, faults and people at once, judged by what must always hold."""
