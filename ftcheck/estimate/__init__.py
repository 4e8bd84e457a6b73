"""Estimates before the GPU: steps, time, disk, memory, and the load of serving."""
