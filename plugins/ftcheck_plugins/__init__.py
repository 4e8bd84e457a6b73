"""The built-in loaders and reporters: the only place where tokenizers, data and models are opened."""
