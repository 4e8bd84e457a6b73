"""The fault bench: clean jobs, the smallest change that plants each catalogued failure, and who finds it."""
