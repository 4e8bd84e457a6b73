"""Peak memory of a training job, from its configuration alone."""
