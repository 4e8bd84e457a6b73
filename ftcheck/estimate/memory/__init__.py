"""Peak GPU memory of a training step: shapes, closed formulas, and a simulated step."""
