"""One run, from the policy file to the report: load, select, run in a worker, assemble, write."""
