"""Peak GPU memory of a training step: shapes, closed formulas, and a traced step replayed through the allocator."""
