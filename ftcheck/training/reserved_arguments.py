"""Training arguments that ftcheck's own trainer sets itself; a policy that states one is told."""

from collections.abc import Mapping

RESERVED: Mapping[str, str] = {
    "dataset_kwargs": "the rows are prepared before the gate, TRL must not prepare them again",
    "logging_nan_inf_filter": "it makes a dead run log a loss of 0",
    "chat_template_path": "write 'model.chat_template'",
    "trust_remote_code": "write 'model.trust_remote_code'",
    "resume_from_checkpoint": "run 'ftcheck train --resume'",
    "hub_token": "set HF_TOKEN in the environment",
}
"""Keys of SFTConfig that the trainer sets itself, and why or where else."""


RESERVED_FOR_MODEL: Mapping[str, str] = {
    "trust_remote_code": "write 'model.trust_remote_code'",
    "revision": "write 'model.revision'",
    "quantization_config": "write 'training.quantization'",
}
