"""`python -m ftcheck` as a launcher starts it, watched: each process notes the rows that it feeds.

FED names the folder for the notes: `<rank>.jsonl`, a line a batch, the ids of each row that has a token in
the loss. SHARDED (`fsdp` or `deepspeed`) lifts accelerate's rule that a CPU shards nothing: what follows is
the libraries' own code, over gloo.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

FED, SHARDED = "FTCHECK_TEST_FED", "FTCHECK_TEST_SHARDED"


def _padded(inputs: Any) -> list[list[int]]:
    real = zip(inputs["input_ids"], inputs["attention_mask"], inputs["labels"], strict=True)
    return [ids[mask == 1].tolist() for ids, mask, labels in real if bool((labels != -100).any())]


def _flattened(inputs: Any) -> list[list[int]]:
    """The rows of packed blocks: positions start anew at each. `shift_labels` are labels, one place on."""
    ids, positions, labels = (inputs[name][0].tolist() for name in ("input_ids", "position_ids", "labels"))
    begins = [place for place, position in enumerate(positions) if position == 0]
    spans = list(zip(begins, [*begins[1:], len(ids)], strict=True))
    return [ids[start:stop] for start, stop in spans if any(one != -100 for one in labels[start:stop])]


def _note_rows(folder: Path) -> None:
    from ftcheck_trainers.metrics import Metrics

    from ftcheck import ranks

    counted = Metrics.count

    def count(self: Metrics, inputs: Any) -> None:
        counted(self, inputs)
        rows = _flattened(inputs) if inputs.get("attention_mask") is None else _padded(inputs)
        with (folder / f"{ranks.rank()}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(rows) + "\n")

    Metrics.count = count  # type: ignore[method-assign]


def _shard_on_cpu(how: str) -> None:
    """accelerate 1.15 (state.py) takes FSDP for GPUs only, and DeepSpeed for whatever is no CPU."""
    from accelerate.state import AcceleratorState, DistributedType, PartialState
    from ftcheck_trainers import sharded_models

    sharded_models.refuse_on_cpu = lambda job, machine: None
    first, state = PartialState.__init__, AcceleratorState.__init__

    def partial_state(self: Any, *given: Any, **named: Any) -> None:
        first(self, *given, **named)
        if how == "deepspeed" and "WORLD_SIZE" in os.environ:
            import deepspeed

            if not deepspeed.comm.is_initialized():
                deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)

    def accelerator_state(self: Any, mixed_precision: Any = None, cpu: bool = False, **named: Any) -> None:
        PartialState(True)
        shared = PartialState._shared_state
        if how == "fsdp" and shared["distributed_type"] is DistributedType.MULTI_CPU:
            shared["distributed_type"] = DistributedType.MULTI_GPU
        state(self, mixed_precision, cpu and how == "fsdp", **named)

    PartialState.__init__ = partial_state
    AcceleratorState.__init__ = accelerator_state


def main() -> None:
    """Take part in a training."""
    if os.environ.get(FED):
        _note_rows(Path(os.environ[FED]))
    if os.environ.get(SHARDED):
        _shard_on_cpu(os.environ[SHARDED])
    from ftcheck.cli import main as command

    command(sys.argv[1:])


if __name__ == "__main__":
    main()
