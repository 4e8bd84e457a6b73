"""Opens data: rows of files, gold sets, benchmarks, output schemas."""
