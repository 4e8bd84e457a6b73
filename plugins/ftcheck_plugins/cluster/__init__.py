"""`--engine ray`: the preparation as tasks over shards, on the machines of a Ray cluster."""
