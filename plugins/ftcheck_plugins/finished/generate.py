"""Loads a base and its adapter, and answers prompts: `python -m ftcheck_plugins.finished.generate`.

It is started fresh, so that what it loads is what a server would load. A request is a line of JSON on stdin:
`{"load": {...}}` first, then any number of `{"answer": {...}}`. Events are lines on stdout; whatever
libraries print goes to stderr. When stdin closes the process ends, in the middle of an answer too.
"""

import json
import os
import queue
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
SHOWN = 8
"""So many names of tensors are told at most."""

Tell = Callable[[Mapping[str, Any]], None]


def main() -> int:
    """Answer requests until stdin closes."""
    tell, requests = _events(), _requests()
    model: Any = None
    while (request := requests.get()) is not None:
        try:
            if "load" in request:
                model, facts = load(request["load"])
                tell({"event": "loaded", **facts})
            else:
                tell({"event": "answers", "answers": answer(model, request["answer"], tell)})
        except Exception as error:
            tell({"event": "failed", "message": one_line(error)})
    return 0


def _events() -> Tell:
    """Keep stdout for events; what anybody prints from now on goes to stderr."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr

    def tell(event: Mapping[str, Any]) -> None:
        stream.write(json.dumps(event) + "\n")
        stream.flush()

    return tell


def _requests() -> "queue.Queue[Mapping[str, Any] | None]":
    found: queue.Queue[Mapping[str, Any] | None] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            found.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return found


def one_line(error: BaseException) -> str:
    """What an exception says, on one line and not endless."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}"[:500]


# --- loading --------------------------------------------------------------------------------------------


def load(asked: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The model and what is to be told of it.

    `asked` has `base`, `revision`, `trust_remote_code`, `quantization` (keyword arguments of
    BitsAndBytesConfig, or None), `resize` (rows of the embedding table, or None) and `adapter` (a folder, or
    None). Raises what transformers and peft raise.
    """
    import torch
    from transformers import BitsAndBytesConfig

    warnings.simplefilter("ignore")
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    quantization = asked["quantization"]
    base = base_class(asked["base"], asked["revision"], asked["trust_remote_code"], asked["adapter"])
    base = base.from_pretrained(
        asked["base"],
        revision=asked["revision"],
        trust_remote_code=asked["trust_remote_code"],
        dtype="auto",
        device_map={"": device},
        quantization_config=None if quantization is None else BitsAndBytesConfig(**quantization),
    )
    if asked["resize"] is not None:
        base.resize_token_embeddings(asked["resize"])
    facts: dict[str, Any] = {
        "device": torch.cuda.get_device_name(0) if device != "cpu" else "cpu",
        "rows": int(base.get_input_embeddings().weight.shape[0]),
    }
    if asked["adapter"] is None:
        return base.eval(), facts | tensors(Path(asked["base"]))
    model = _with_adapter(base, asked["adapter"])
    facts |= tensors(Path(asked["adapter"])) | _left_out(model, Path(asked["adapter"]))
    return model.eval(), facts


def base_class(name: str, revision: str | None, trust_remote_code: bool, adapter: str | None) -> Any:
    """The class that TRL loads a base with (trl.trainer.utils.create_model_from_path): `architectures[0]`.

    An adapter that another program trained on the text model of a multimodal base has that model's names:
    it is loaded on AutoModelForCausalLM.
    """
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
    stated = getattr(transformers, (config.architectures or ["?"])[0], None)
    if stated is None:
        auto_map = getattr(config, "auto_map", None) or {}
        return (
            AutoModelForImageTextToText if "AutoModelForImageTextToText" in auto_map else AutoModelForCausalLM
        )
    several = config.get_text_config() is not config
    if (
        several
        and adapter is not None
        and not any(".language_model." in one for one in _names(Path(adapter)))
    ):
        return AutoModelForCausalLM
    return stated


def _names(folder: Path) -> set[str]:
    """Tensors of an adapter."""
    from safetensors import safe_open

    path = folder / "adapter_model.safetensors"
    if not path.is_file():
        return set()
    with safe_open(str(path), framework="pt") as file:
        return set(file.keys())


def _with_adapter(base: Any, folder: str) -> Any:
    from peft import PeftModel

    # No pickle is loaded: where there is no safetensors file, peft would take adapter_model.bin.
    if not (Path(folder) / "adapter_model.safetensors").is_file():
        raise FileNotFoundError(f"{folder} contains no adapter_model.safetensors")
    return PeftModel.from_pretrained(base, folder, is_trainable=False)


def _left_out(model: Any, folder: Path) -> dict[str, list[str]]:
    """Tensors that the model wants and the file does not have, and the other way round: peft only warns."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(str(folder / "adapter_model.safetensors"), framework="pt") as file:
        stored = set(file.keys())
    wanted = set(get_peft_model_state_dict(model))
    return {"not_loaded": sorted(wanted - stored)[:SHOWN], "unexpected": sorted(stored - wanted)[:SHOWN]}


def tensors(folder: Path) -> dict[str, Any]:
    """What the safetensors files of a folder hold: how many tensors, which are not finite, which say
    nothing."""
    import torch
    from safetensors import safe_open

    count, updates, zero, not_finite = 0, 0, 0, []
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(str(path), framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping, it has no __iter__
                tensor = file.get_tensor(name)
                count += 1
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
                    not_finite.append(name)
                if ".lora_B" in name or ".lora_embedding_B" in name:
                    updates += 1
                    zero += not bool(tensor.float().any())
    return {"tensors": count, "updates": updates, "zero": zero, "not_finite": not_finite[:SHOWN]}


# --- answering ------------------------------------------------------------------------------------------


def answer(model: Any, asked: Mapping[str, Any], tell: Tell) -> list[dict[str, Any]]:
    """Greedy answers to prompts of token ids, in their order: the new ids with the stop token, and whether
    one came.

    `asked` has `prompts`, `cap` (new tokens at most), `stops` (ids), `pad` (an id), `batch` (prompts at once)
    and `adapter` (false: the base alone). Prompts of like length go together, the longest first, so that what
    does not fit the memory fails at once; a batch that does not fit is halved.
    """
    import torch

    prompts: Sequence[Sequence[int]] = asked["prompts"]
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    answers: list[dict[str, Any]] = [{} for _ in prompts]
    batch, done = int(asked["batch"]), 0
    alone = nullcontext() if asked["adapter"] else model.disable_adapter()
    with alone, torch.inference_mode():
        while done < len(order):
            chosen = order[done : done + batch]
            try:
                made = _generated(model, [prompts[index] for index in chosen], asked)
            except torch.cuda.OutOfMemoryError:
                if batch == 1:
                    raise
                batch = max(batch // 2, 1)
                torch.cuda.empty_cache()
                continue
            for index, ids in zip(chosen, made, strict=True):
                answers[index] = ids
            done += len(chosen)
            tell({"event": "progress", "done": done})
    return answers


def _generated(
    model: Any, prompts: Sequence[Sequence[int]], asked: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """One batch, padded on the left."""
    import torch

    width = max(map(len, prompts))
    ids = torch.tensor([[asked["pad"]] * (width - len(one)) + list(one) for one in prompts])
    mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prompts])
    device = model.get_input_embeddings().weight.device
    made = model.generate(
        input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=_greedy(model, asked)
    )
    return (_cut(row, set(asked["stops"])) for row in made[:, width:].tolist())


def _greedy(model: Any, asked: Mapping[str, Any]) -> Any:
    """The base model's generation config without sampling, as a server asked with temperature 0 takes it."""
    import copy

    config = copy.deepcopy(model.generation_config)
    config.update(
        do_sample=False,
        num_beams=1,
        num_return_sequences=1,
        max_length=None,
        max_new_tokens=asked["cap"],
        eos_token_id=asked["stops"],
        pad_token_id=asked["pad"],
        use_cache=True,
        **dict.fromkeys(SAMPLING),
    )
    return config


def _cut(ids: list[int], stops: set[int]) -> dict[str, Any]:
    """The ids up to the first stop token, it included, and whether there is one."""
    end = next((place for place, one in enumerate(ids) if one in stops), None)
    return {"ids": ids if end is None else ids[: end + 1], "ended": end is not None}


if __name__ == "__main__":
    raise SystemExit(main())
