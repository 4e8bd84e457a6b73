"""Must-fail and must-pass cases of the rules about the training configuration."""
