import warnings
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.preparation import collator

from ftcheck.inputs.collated import Collated
from ftcheck.testing import job
from tests.faults.bench import BASES, Bench

END, PAD = "<|eot_id|>", "<|pad|>"


def collated(folder: Path, *, pad: str | None = PAD, side: str = "right", **settings: Any) -> Collated:
    bench: Bench = BASES["chat"](folder)
    bench.train, bench.evaluation = bench.train[:8], bench.evaluation[:4]
    bench.tokenizer_config["padding_side"] = side
    if pad is None:
        del bench.tokenizer_config["pad_token"]
    else:
        bench.tokenizer_config["pad_token"] = pad
    for key, value in settings.items():
        bench.set(key.replace("__", "."), value)
    bench.write()
    found = bench.look().inputs.get("collated")
    assert isinstance(found, Collated)
    return found


@pytest.mark.parametrize("side", ["right", "left"])
def test_transformers_collator_masks_every_id_that_is_padding(tmp_path: Path, side: str) -> None:
    shared = collated(tmp_path, pad=END, side=side, trainer__collator="transformers")

    assert (shared.stops, shared.stops_lost, shared.pads_trained) == (2, 2, 0)
    assert shared.masked_trained > 0


def test_transformers_collator_keeps_stop_tokens_where_padding_is_another(tmp_path: Path) -> None:
    apart = collated(tmp_path, trainer__collator="transformers")
    assert (apart.stops, apart.stops_lost, apart.pads_trained) == (2, 0, 0)


def test_transformers_collator_cannot_pad_without_a_token(tmp_path: Path) -> None:
    none = collated(tmp_path, pad=None, trainer__collator="transformers")
    assert none.problem is not None
    assert "padding token" in none.problem


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("pad", [PAD, END, None])
def test_trls_collator_masks_by_position(tmp_path: Path, pad: str | None, packing: bool) -> None:
    pytest.importorskip("trl")

    found = collated(tmp_path, pad=pad, training__packing=packing)

    assert (found.stops, found.stops_lost, found.masked_trained) == (2, 0, 0)
    assert (found.pads > 0, found.pads_trained) == (not packing, 0)


FED = [([7, 8, 9, 5], [-100, 8, 9, 5]), ([7, 5], [7, 5]), ([5], [5])]


@pytest.mark.parametrize("flat", [True, False])
def test_what_is_done_here_is_what_the_installed_collator_does(flat: bool) -> None:
    pytest.importorskip("trl")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        itself = collator.trl_itself(FED, flat=flat, pad=5)

    assert collator.as_trl(FED, flat=flat) == itself


def test_the_installed_collator_is_one_that_was_read() -> None:
    pytest.importorskip("trl")
    assert collator.known_trl()


@pytest.mark.realdata
def test_25_transformers_pads_with_the_token_of_the_policy(realdata: Path) -> None:
    """training.pad_token is EOS, and the tokenizer has none of its own: stops lose their labels."""
    from ftcheck_plugins.preparation.collator import _by_transformers
    from transformers import AutoTokenizer

    backend = AutoTokenizer.from_pretrained(realdata / "tokenizers" / "Qwen2.5-Instruct")
    backend.pad_token = None
    stop = backend.convert_tokens_to_ids("<|im_end|>")
    one = job(training={"extra": {"pad_token": "<|im_end|>"}}, trainer={"collator": "transformers"})

    labels = _by_transformers(one, backend, [([9, 8, stop], [9, 8, stop]), ([9, stop], [9, stop])])

    assert [row[-1] for row in labels] == [-100, -100]
    assert backend.pad_token is None
