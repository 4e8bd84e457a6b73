"""Peak GPU memory of a training step: closed formulas, and a traced step through the allocator."""
