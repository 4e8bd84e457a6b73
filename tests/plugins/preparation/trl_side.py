"""What TRL's own SFTTrainer makes of rows, to hold ftcheck's preparation against."""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

Fed = tuple[list[int], list[int]]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """TRL, transformers and datasets warn and log about things the tests do on purpose.

    datasets names each step by a digest over the pickled tokenizer, 0.1 s and more each time: here a random
    name does, since nothing is cached.
    """
    import datasets

    datasets.disable_progress_bars()
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with mock.patch("datasets.fingerprint.Hasher.hash", side_effect=lambda value: uuid4().hex):
                yield
    finally:
        logging.disable(before)


def tiny_model(tokenizer: Any) -> Any:
    """A Llama with one layer of width 8: SFTTrainer wants a model, its weights do not matter."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer) + 1,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            max_position_embeddings=64,
        )
    )


def prepare(tokenizer: Any, rows: Sequence[dict[str, Any]], folder: Path, **training: Any) -> list[Fed]:
    """Ids and labels of each row that TRL would feed, packed blocks taken apart again."""
    return trainer_of(tokenizer, rows, folder, **training)(rows)


def trainer_of(
    tokenizer: Any, rows: Sequence[dict[str, Any]], folder: Path, **training: Any
) -> Callable[[Sequence[dict[str, Any]]], list[Fed]]:
    """An SFTTrainer made of `rows`, as a function that prepares other rows of their layout its way."""
    from datasets import Dataset

    preparing = preparation_of(tokenizer, rows, folder, **training)
    return lambda rows: [fed for row in preparing(Dataset.from_list(list(rows))) for fed in _apart(row)]


def preparation_of(
    tokenizer: Any, rows: Sequence[dict[str, Any]], folder: Path, **training: Any
) -> Callable[[Any], Any]:
    """An SFTTrainer made of `rows`, as what it does with a data set (`datasets.Dataset`) before training."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    with quiet():
        arguments = SFTConfig(output_dir=str(folder), report_to="none", use_cpu=True, bf16=False, **training)
        trainer = SFTTrainer(
            model=tiny_model(tokenizer),
            args=arguments,
            train_dataset=Dataset.from_list(list(rows[:3])),
            processing_class=tokenizer,
        )

    def prepared(rows: Any) -> Any:
        with quiet():
            return trainer._prepare_dataset(rows, tokenizer, arguments, arguments.packing, None, "train")

    return prepared


def _apart(row: dict[str, Any]) -> Iterator[Fed]:
    start = 0
    for length in row.get("seq_lengths") or [len(row["input_ids"])]:
        yield row["input_ids"][start : start + length], row["labels"][start : start + length]
        start += length
