"""Rules about the training configuration."""
