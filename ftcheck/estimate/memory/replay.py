"""A training run's blocks in the order of their lives, through the model of the caching allocator.

The model is loaded, the adapter is put on it, then steps run: forward and backward pass as traced,
clipping, the optimizer. At a capacity, a run that does not fit goes out of memory where the real one would.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ftcheck.estimate.memory.allocator import Allocator, OutOfMemory
from ftcheck.estimate.memory.program import Program
from ftcheck.estimate.memory.trace import FIRST_PRODUCT, Event, Trace, Weight

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
WORKSPACE, WORKSPACE_HOPPER = 8_519_680, 32 << 20
"""Bytes of a cuBLAS workspace (torch 2.13, CublasHandlePool.cpp), 32 MiB from capability 9.0."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """Bytes: the most that was allocated and reserved, and what stood before the first step.

    `fits` is False where the run goes out of memory at the card's capacity; the peaks are then those until
    there. `retries` counts how often PyTorch would give back its cache because the card is full.
    """

    allocated: int
    reserved: int
    resident: int
    fits: bool = True
    retries: int = 0


class _Run:
    """What stands of a run, by block."""

    def __init__(self, program: Program, allocator: Allocator) -> None:
        self.program, self.memory = program, allocator
        self.gradients: list[int] = []
        self.handles: set[str] = set()
        """Threads that have a cuBLAS handle, each with a workspace: the forward pass's and autograd's."""

    def hold(self, sizes: Iterable[int]) -> list[int]:
        return [self.memory.malloc(one) for one in sizes]

    def drop(self, handles: Iterable[int]) -> None:
        for one in handles:
            self.memory.free(one)

    def play(
        self, thread: str, events: Sequence[Event], live: dict[int, int], passing: frozenset[int]
    ) -> None:
        """Blocks in `passing` die at their birth: gradients that are added to those that stand."""
        for number, size in events:
            if number == FIRST_PRODUCT[0]:
                if thread not in self.handles:
                    self.handles.add(thread)
                    self.memory.malloc(workspace(self.program))
            elif not size:
                if number not in passing:
                    self.memory.free(live.pop(number))
            elif number in passing:
                self.memory.free(self.memory.malloc(size))
            else:
                live[number] = self.memory.malloc(size)


def replay(program: Program, traces: Sequence[Trace], capacity: int | None = None) -> Peaks:
    """The run's peaks. `traces` are its steps in order (of one model and program), such as a short batch and
    the longest; a single one is repeated, so that the optimizer's state stands in a step."""
    memory = Allocator(program.rules, capacity)
    run = _Run(program, memory)
    resident = 0
    try:
        _load(run, traces[0].weights)
        _adapt(run, traces[0])
        resident = memory.allocated
        states: list[int] = []
        for one in traces if len(traces) > 1 else (*traces, *traces):
            _step(run, one, states)
    except OutOfMemory:
        return Peaks(memory.max_allocated, memory.max_reserved, resident, False, memory.retries)
    return Peaks(memory.max_allocated, memory.max_reserved, resident, True, memory.retries)


def workspace(program: Program) -> int:
    """Bytes of one cuBLAS workspace on the program's GPU."""
    hopper = program.capability is not None and program.capability[0] == 9
    return WORKSPACE_HOPPER if hopper else WORKSPACE


# --- before the first step -----------------------------------------------------------------------------


def _load(run: _Run, weights: Sequence[Weight]) -> None:
    """The base as transformers 5 loads it: room for all of it is asked for once and given back, then weight
    after weight comes to the GPU in 16 bits, is quantised, and freed."""
    program = run.program
    number = BYTES[program.dtype]
    if not program.on_cpu_first:
        run.memory.free(run.memory.malloc(int(sum(_stated(program, one) for one in weights))))
    plain: dict[str, int] = {}
    for one in sorted(weights, key=_natural):
        whole = run.memory.malloc(one.numbers * number)
        if _stays(program, one):
            plain[one.name] = whole
        else:
            _quantise(run, one, whole)
    standing = [one for one in weights if one.name in plain]
    if program.widened:
        _cast(run, standing, plain, dict.fromkeys(plain, "float32"))
    wanted = {one.name: program.dtype_of(one.name) for one in standing}
    if program.prepared or program.widened:
        changed = [one for one in standing if program.widened or wanted[one.name] != program.dtype]
        _cast(run, changed, plain, wanted)
    if program.prepared:
        run.memory.empty_cache()


def _cast(run: _Run, weights: Sequence[Weight], plain: dict[str, int], wanted: Mapping[str, str]) -> None:
    """Weights to another dtype, one after the other."""
    for one in weights:
        old = plain[one.name]
        plain[one.name] = run.memory.malloc(one.numbers * BYTES[wanted[one.name]])
        run.memory.free(old)


def _natural(one: Weight) -> list[tuple[int, str]]:
    """The order of names in which weights are loaded: numbers as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in one.name.split(".")]


def _stated(program: Program, one: Weight) -> float:
    """Bytes that transformers expects of a weight: half a byte a number in 4-bit, without scales."""
    if _stays(program, one):
        return one.numbers * BYTES[program.dtype]
    return one.numbers * program.method.bits / 8


def _stays(program: Program, one: Weight) -> bool:
    return program.method.bits == 16 or not one.quantised


def _quantise(run: _Run, one: Weight, whole: int) -> None:
    method = run.program.method
    if method.bits == 8:
        run.hold([one.numbers, 4 * one.shape[0]])
        run.memory.free(whole)
        return
    blocks = -(-one.numbers // method.block)
    _packed, scales, _code = run.hold([-(-one.numbers // 2), 4 * blocks, 16 * 4])
    if method.double:
        _offset, shifted = run.hold([4, 4 * blocks])
        run.hold([blocks, 4 * -(-blocks // 256), 256 * 4])
        run.drop([shifted, scales])
    run.memory.free(whole)


def _adapt(run: _Run, one: Trace) -> None:
    """The adapter: PEFT makes it in a 16-bit base's dtype, else in float32; modules that are trained whole
    are copied as they are. Then all is cast one by one."""
    program = run.program
    born = program.dtype if program.method.bits == 16 else "float32"
    made = run.hold(numbers * BYTES[born] for numbers in one.trained)
    copies = run.hold(each.numbers * BYTES[program.dtype_of(each.name)] for each in one.saved)
    if born != program.adapter:
        for old, numbers in zip(made, one.trained, strict=True):
            run.memory.malloc(numbers * BYTES[program.adapter])
            run.memory.free(old)
    for old, each in zip(copies, one.saved, strict=True):
        if program.dtype_of(each.name) != program.saved:
            run.memory.malloc(each.numbers * BYTES[program.saved])
            run.memory.free(old)


# --- a step --------------------------------------------------------------------------------------------


def _step(run: _Run, one: Trace, states: list[int]) -> None:
    program = run.program
    if program.holds_outputs:
        # A loop of one's own forgets the gradients before the step, the Trainer after it.
        run.drop(run.gradients)
        run.gradients = []
    for micro in range(program.accumulation):
        live: dict[int, int] = {}
        passing = one.gradients if micro else frozenset()
        run.play("forward", one.forward, live, passing)
        run.play("backward", one.backward, live, passing)
        last = micro == program.accumulation - 1
        if last and program.holds_outputs:
            run.gradients += [live[number] for number in one.gradients if number in live]
            _optimize(run, one, states)
        run.play("forward", one.after, live, passing)
        if not (last and program.holds_outputs) and micro == 0:
            run.gradients += [live[number] for number in sorted(one.gradients) if number in live]
    if not program.holds_outputs:
        _optimize(run, one, states)
        run.drop(run.gradients)
        run.gradients = []


def _optimize(run: _Run, one: Trace, states: list[int]) -> None:
    """Clipping and the optimizer: its states at the first step, its temporaries at each."""
    program = run.program
    trained = [(numbers, BYTES[program.adapter]) for numbers in one.trained]
    trained += [(each.numbers, BYTES[program.saved]) for each in one.saved]
    if program.clips:
        norms = run.hold([4] * len(trained))
        run.drop([*norms, *run.hold([4 * len(trained), 4])])
    name = program.optimizer
    if not states:
        states += run.hold(_states(name, trained))
    if name in ("adamw_torch", "adamw_hf"):
        # torch's foreach implementation: the square roots of all second moments at once.
        run.drop(run.hold(numbers * width for numbers, width in trained))


def _states(name: str, trained: Sequence[tuple[int, int]]) -> Iterable[int]:
    """Bytes of the optimizer's blocks, weight by weight (numbers, and bytes of one); paged ones are not the
    allocator's."""
    if name == "sgd" or name.startswith("paged"):
        return
    for numbers, width in trained:
        if "8bit" in name and numbers >= 4096:
            moments = 1 if name.startswith("lion") else 2
            yield from [numbers] * moments
            yield from [4 * -(-numbers // 256)] * moments
        elif name.startswith("lion"):
            yield 4 * numbers
        else:
            wide = width if name in ("adamw_torch", "adamw_torch_fused", "adamw_hf") else 4
            yield from (numbers * wide, numbers * wide)
        if name.endswith("fused"):
            yield 4
