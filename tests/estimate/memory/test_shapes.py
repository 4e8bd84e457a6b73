"""Shapes of models, methods and batches, as the memory model takes them."""

from typing import Any

import pytest

from ftcheck.estimate.memory.shapes import CannotTell, Feed, feed, method, usual_length
from ftcheck.inputs.model_shape import UnknownShape, well_known
from tests.estimate.memory.kit import SMALL, a_job, architecture, known, llama

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("meta-llama/Meta-Llama-3-8B-Instruct", 8_030_261_248),
        ("meta-llama/Llama-3.2-1B-Instruct", 1_235_814_400),
        ("microsoft/Phi-3-mini-4k-instruct", 3_821_079_552),
        ("mistralai/Mistral-7B-Instruct-v0.3", 7_248_023_552),
        ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512),
        ("Qwen/Qwen2.5-1.5B-Instruct", 1_543_714_304),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", 1_100_048_384),
    ],
)
def test_weights_of_well_known_models_are_the_published_numbers(name: str, weights: int) -> None:
    assert architecture(known(name)).weights == weights


def test_a_local_folder_of_a_known_name_is_found_and_another_is_not() -> None:
    assert well_known("/models/phi-3-mini-4k-instruct/") is not None
    assert well_known("someone/else") is None


@pytest.mark.parametrize(
    "config",
    [
        {**SMALL, "num_local_experts": 8},
        {**SMALL, "model_type": "deepseek_v3", "kv_lora_rank": 512},
        {"model_type": "mamba", "hidden_size": 768},
        {},
    ],
)
def test_what_is_no_plain_decoder_is_not_guessed(config: dict[str, Any]) -> None:
    with pytest.raises(UnknownShape):
        architecture(config)


def test_training_that_is_not_modelled_is_not_guessed() -> None:
    with pytest.raises(CannotTell):
        method(a_job(lora=None), llama())


def test_adapter_is_what_peft_attaches() -> None:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    with torch.device("meta"):
        base = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**SMALL))
    made = peft.get_peft_model(
        base, peft.LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"), low_cpu_mem_usage=True
    )
    trained = sum(p.numel() for p in made.parameters() if p.requires_grad)
    how = method(a_job(lora={"r": 8, "target_modules": "all-linear"}), architecture(SMALL))
    assert how.adapter(architecture(SMALL)) == trained


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (None, {"q_proj", "v_proj"}),
        (("o_proj",), {"o_proj"}),
        (r".*\.mlp\..*_proj", {"gate_proj", "up_proj", "down_proj"}),
    ],
)
def test_targets_are_read_as_peft_reads_them(targets: Any, names: set[str]) -> None:
    how = method(a_job(lora={"r": 8, "target_modules": targets}), llama())
    assert {one.name for one in llama().linears if how.rank_of(one.name)} == names


def test_packing_flattens_a_batch_and_padding_does_not() -> None:
    shape = llama()
    assert feed(a_job(packing=True), shape, longest=100) == Feed(1, 4 * 2048, masked=True)
    assert feed(a_job(packing=True, packing_strategy="wrapped"), shape, longest=100) == Feed(4, 2048)
    assert feed(a_job(), shape, longest=100) == Feed(4, 100, masked=True)
    assert feed(a_job(), shape, longest=100, sequences=1) == Feed(1, 100)
    flash = {"model_init_kwargs": {"attn_implementation": "flash_attention_2"}}
    assert feed(a_job(packing=True, extra=flash), shape, longest=100) == Feed(1, 4 * 2048)
    phi = architecture(known("Phi-3-mini-4k-instruct"))
    assert feed(a_job(per_device_train_batch_size=1), phi, longest=2048).masked
    assert not feed(a_job(per_device_train_batch_size=1), phi, longest=2000).masked


def test_half_of_the_batches_are_no_longer_than_a_usual_one() -> None:
    np = pytest.importorskip("numpy")
    lengths = np.random.default_rng(0).integers(10, 2000, 5000)
    for batch in (1, 4, 16):
        usual = usual_length(a_job(per_device_train_batch_size=batch), lengths)
        drawn = np.random.default_rng(1).choice(lengths, (20_000, batch)).max(axis=1)
        assert usual == pytest.approx(np.median(drawn), rel=0.02)
    flat = usual_length(a_job(padding_free=True), lengths)
    assert flat == round(float(np.median(lengths)))


def test_where_the_longest_batch_comes_first_no_other_is_fed_before() -> None:
    np = pytest.importorskip("numpy")
    lengths = np.arange(1, 100)
    grouped = a_job(extra={"train_sampling_strategy": "group_by_length"})
    assert usual_length(grouped, lengths) is None
    assert usual_length(a_job(), lengths[:4]) is None
    assert usual_length(a_job(), lengths) is not None
