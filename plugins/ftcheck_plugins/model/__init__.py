"""Opens models: configuration, tokenizer, safetensors headers, the hub."""
