"""Opens what a training left behind: run folder, adapter, generations, load tests."""
