"""Jobs whose settings stand in another framework's file (issue 15, item 2): planted for the bench."""

from collections.abc import Callable

from tests.faults.bench import Bench
from tests.faults.catalogue import Fault, Plant
from tests.faults.from_files import AXOLOTL, imported, llama_factory

FAULTS: list[Fault] = []
BASES = ("chat", "thinking")
"""Clean jobs of two tokenizers: each kind is planted in both."""


def fault(id: str, where: str, severity: str = "error") -> Callable[[Plant], Plant]:
    """List a function that plants a failure in both bases."""

    def listed(plant: Plant) -> Plant:
        FAULTS.extend(
            Fault(f"{id}-{base}", "from", "imported-config", where, plant, base, severity) for base in BASES
        )
        return plant

    return listed


@fault("from-other-length", "training.max_length")
def _(bench: Bench) -> None:
    """The policy was copied from another run: axolotl trains with 320 tokens, whatever it says."""
    imported(bench)
    bench.set("training.max_length", 512)


@fault("from-argument-that-the-file-has-not", "training.neftune_noise_alpha")
def _(bench: Bench) -> None:
    """The policy adds noise to the embeddings; axolotl's file says nothing of it."""
    imported(bench)
    bench.set("training.neftune_noise_alpha", 5)


@fault("from-ends-of-turns", "eot_tokens", "warning")
def _(bench: Bench) -> None:
    """axolotl masks and trains by tokens that end a turn, which no policy can say."""
    imported(bench, AXOLOTL + "eot_tokens: ['<|end|>']\n")


@fault("from-unknown-key", "sample_pack", "warning")
def _(bench: Bench) -> None:
    """A key with a typo, which axolotl drops without a word: packing stays off."""
    imported(bench, AXOLOTL.replace("sample_packing", "sample_pack"))


@fault("from-columns-reset", "dataset_info.json:4", "warning")
def _(bench: Bench) -> None:
    """Giving `columns` resets those that are not named: the rows' messages are not read."""
    tags = {"role_tag": "role", "content_tag": "content"}
    llama_factory(bench, {"file_name": "train.jsonl", "columns": {}, "formatting": "sharegpt", "tags": tags})
