"""A policy of every style, to be edited."""

POLICY = """\
# what must hold
ftcheck: 1
defaults:
  training:
    lora: {r: 16, lora_alpha: 32, target_modules: all-linear} # as in the paper
  serving:
    log: content
jobs:
  mapper:
    model: {name: ./model}
    training:
      max_length: 64   # rows are short
      learning_rate: 4.0e-3

      output_dir: 'runs/mapper'
    targets:
      max_length:
        - 32 # low
        - 64 # high
    serving:
      system_prompt: |
        Two lines
        of text

      max_new_tokens: 8
  # the other one
  analyst.v2:
    model: {name: "./model"}
    training:
    evaluation: {}
"""
