"""Jobs and shapes for the tests of the memory model."""

from typing import Any

from ftcheck.inputs.model_shape import Decoder, model_shape, well_known
from ftcheck.settings import Job
from ftcheck.testing import job

SMALL: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 2048,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}


NF4 = {
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "bfloat16",
}


def a_job(*, hardware: Any = None, trainer: Any = None, **training: Any) -> Job:
    given = {
        "max_length": 2048,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 4,
        "lora": {"r": 16, "target_modules": "all-linear"},
        "quantization": NF4,
        **training,
    }
    return job(training=given, hardware=hardware or {}, **({"trainer": trainer} if trainer else {}))


def known(name: str) -> dict[str, Any]:
    found = well_known(name)
    assert found is not None
    return dict(found)


def llama(**changes: Any) -> Decoder:
    return architecture({**known("Meta-Llama-3-8B-Instruct"), **changes})


def architecture(config: dict[str, Any]) -> Decoder:
    return model_shape(config).decoder()
