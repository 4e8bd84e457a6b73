"""How time, memory and bytes read grow with rows, jobs and workers: `python -m tests.benchmarks.growth`."""
