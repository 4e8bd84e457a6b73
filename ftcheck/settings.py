"""What a policy says, as frozen records: the job and its sections, checks, waivers, gate.

The docstring under a field is its help text: `ftcheck schema` prints it, editors show it. The
policy reader validates against these records, and the JSON Schema is generated from them. What a type does
not say stands beside it as metadata (see `field_metadata`): its range, whether it is a path, whether it
changes the ids of rows, what other trainers call it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any, Literal

from ftcheck.field_metadata import (
    ONE_UP,
    POSITIVE,
    ZERO_UP,
    AlsoCalled,
    Form,
    LibraryKeys,
    Limit,
    Mark,
    PathKind,
)
from ftcheck.records import Location, Severity, Stage

STRICT = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The base model, its tokenizer and its chat template."""

    __pydantic_config__ = STRICT
    name: Annotated[str, PathKind.MODEL, Mark.NOT_EMPTY]
    """Hub id or local folder."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    tokenizer: Annotated[str | None, PathKind.MODEL] = None
    """Hub id or local folder of the tokenizer; default: the model's own."""
    chat_template: Annotated[str | None, PathKind.FILE] = None
    """Path of a .jinja file; default: the tokenizer's own template."""
    resize_embeddings_to: int | None = None
    """Rows that the embedding table is given before training; default: it stays as it is."""
    trust_remote_code: bool = False
    """Run code that the model repository ships. Off, and never asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gold:
    """Questions with known answers, kept out of training."""

    __pydantic_config__ = STRICT
    path: Annotated[str, PathKind.FILE, Mark.NOT_EMPTY]
    """A .json array or a .jsonl file."""
    input: Annotated[str, Mark.NOT_EMPTY] = "input"
    """The key that holds the question (a string or a list of messages)."""
    expected: Annotated[str, Mark.NOT_EMPTY] = "expected"
    """The key that holds the answer (a string or a JSON value)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outliers:
    """What happens to the longest rows. Applied in preparation, so by the trainer too."""

    __pydantic_config__ = STRICT
    above_percentile: Annotated[float, Limit(above=0, at_most=100)] = 99.0
    """Rows longer than this nearest-rank percentile of the lengths are outliers."""
    action: Literal["keep", "drop", "truncate", "chunk"] = "keep"
    """`chunk` cuts a row of plain text into several of at most that length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The data sets of a job."""

    __pydantic_config__ = STRICT
    train: Annotated[str | tuple[str, ...] | None, PathKind.DATA] = None
    """A path, a glob, a list of them, or the name of a hub data set: .jsonl .json .parquet .csv."""
    eval: Annotated[str | tuple[str, ...] | None, PathKind.DATA] = None
    """The same, for evaluation during training."""
    gold: Gold | None = None
    """Questions with known answers."""
    benchmarks: Annotated[str | tuple[str, ...] | None, PathKind.DATA] = None
    """Test sets, files like those of data.train, that no training row may be taken from."""
    format: Literal["auto", "messages", "prompt-completion", "text", "sharegpt", "alpaca"] = "auto"
    """How rows are laid out; `auto` looks at the keys of the first row."""
    outliers: Outliers | None = None
    """What happens to the longest rows."""
    exclude: Annotated[str | None, PathKind.FILE] = None
    """A list of rows of data.train to leave out, by file, line and digest, as `ftcheck fix` writes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """The adapter: names and meaning as in peft.LoraConfig."""

    __pydantic_config__ = STRICT
    r: Annotated[int, ONE_UP, AlsoCalled(("rank", "lora_r", "lora_rank"))] = 8
    """Rank."""
    lora_alpha: Annotated[int, ONE_UP] = 8
    """Scaling: the update is multiplied by lora_alpha / r."""
    lora_dropout: Annotated[float, Limit(at_least=0, below=1)] = 0.0
    """Dropout on the adapter's input."""
    target_modules: Annotated[str | tuple[str, ...] | None, AlsoCalled(("lora_target",))] = None
    """Module names, a regular expression, or `all-linear`."""
    modules_to_save: tuple[str, ...] | None = None
    """Modules that are trained whole and saved with the adapter."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Which biases are trained."""
    use_rslora: bool = False
    """Scale by lora_alpha / sqrt(r)."""
    use_dora: bool = False
    """Weight-decomposed LoRA."""
    extra: Annotated[Mapping[str, Any], LibraryKeys("training.lora")] = field(default_factory=dict)
    """Other keys of peft.LoraConfig, written beside these in the policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """How the base model is loaded: names and meaning as in transformers.BitsAndBytesConfig."""

    __pydantic_config__ = STRICT
    load_in_4bit: bool = False
    """4-bit weights (QLoRA)."""
    load_in_8bit: bool = False
    """8-bit weights (LLM.int8)."""
    bnb_4bit_quant_type: Annotated[Literal["fp4", "nf4"], AlsoCalled(("quant_type",))] = "fp4"
    """bitsandbytes' own default is fp4; QLoRA is nf4."""
    bnb_4bit_use_double_quant: bool = False
    """Quantise the quantisation constants too: 0.516 instead of 0.5625 bytes a weight."""
    bnb_4bit_compute_dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None, AlsoCalled(("compute_dtype",))
    ] = None
    """What is computed in; bitsandbytes' own default is float32, which is slow."""
    bnb_4bit_quant_storage: Literal["uint8", "bfloat16", "float16", "float32"] | None = None
    """How 4-bit weights are stored; must equal the model's dtype under FSDP."""
    extra: Annotated[Mapping[str, Any], LibraryKeys("training.quantization")] = field(default_factory=dict)
    """Other keys of transformers.BitsAndBytesConfig, written beside these in the policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The training arguments: names, meaning and defaults as in trl.SFTConfig (1.16)."""

    __pydantic_config__ = STRICT
    max_length: Annotated[
        int | None, ONE_UP, Mark.AFTER_TOKENISING, Mark.PREPARED, AlsoCalled(("sequence_len", "cutoff_len"))
    ] = 1024
    """Rows are cut to this many tokens; with packing, also the length of a block."""
    truncation_mode: Annotated[Literal["keep_start", "keep_end"], Mark.AFTER_TOKENISING, Mark.PREPARED] = (
        "keep_start"
    )
    """Which end of a row that is too long stays."""
    packing: Annotated[bool, Mark.AFTER_TOKENISING, AlsoCalled(("sample_packing",))] = False
    """Fill blocks of max_length with several rows."""
    packing_strategy: Annotated[Literal["bfd", "bfd_split", "wrapped"], Mark.AFTER_TOKENISING] = "bfd"
    """How TRL packs."""
    packing_planner: Annotated[Literal["optimal", "trl"], Mark.AFTER_TOKENISING, Mark.OWN] = "optimal"
    """ftcheck's own key: `trl` packs every 1,000 rows on their own, `optimal` all with the fewest blocks."""
    padding_free: Annotated[bool, Mark.AFTER_TOKENISING] = False
    """Flatten a batch into one row without padding."""
    per_device_train_batch_size: Annotated[
        int, ONE_UP, Mark.AFTER_TOKENISING, AlsoCalled(("batch_size", "micro_batch_size"))
    ] = 8
    """Rows (or blocks) a device takes at once."""
    per_device_eval_batch_size: Annotated[int, ONE_UP, Mark.AFTER_TOKENISING] = 8
    """The same in evaluation."""
    gradient_accumulation_steps: Annotated[int, ONE_UP, Mark.AFTER_TOKENISING] = 1
    """Batches that are added up before the optimizer steps."""
    learning_rate: Annotated[float, POSITIVE, Mark.AFTER_TOKENISING, AlsoCalled(("lr",))] = 2e-5
    """Peak learning rate."""
    num_train_epochs: Annotated[
        float, POSITIVE, Mark.AFTER_TOKENISING, AlsoCalled(("epochs", "num_epochs"))
    ] = 3.0
    """Passes over the data."""
    max_steps: Annotated[int, Limit(at_least=-1), Mark.AFTER_TOKENISING] = -1
    """Optimizer steps; overrides num_train_epochs when positive."""
    assistant_only_loss: Annotated[bool, Mark.PREPARED] = False
    """Train on the assistant's turns only; the template needs {% generation %} markers."""
    completion_only_loss: Annotated[bool | None, Mark.PREPARED] = None
    """Train on the completion only; default: yes for prompt-completion rows."""
    dataset_text_field: Annotated[str, Mark.PREPARED] = "text"
    """The key of plain-text rows."""
    eos_token: str | None = None
    """Another end-of-sequence token than the tokenizer's."""
    output_dir: Annotated[str | None, PathKind.FILE, Mark.OUTPUT, Mark.AFTER_TOKENISING] = None
    """The run folder: checkpoints, adapter, run.json, metrics.jsonl."""
    seed: Annotated[int, ZERO_UP, Mark.AFTER_TOKENISING] = 42
    """Seeds the adapter's start values and the order of the rows."""
    gradient_checkpointing: Annotated[bool, Mark.AFTER_TOKENISING, Mark.RENAMED] = True
    """Recompute activations in the backward pass."""
    bf16: Annotated[bool | None, Mark.AFTER_TOKENISING] = None
    """Compute in bfloat16; TRL's default is yes unless fp16 is set."""
    fp16: Annotated[bool, Mark.AFTER_TOKENISING] = False
    """Compute in float16."""
    optim: Annotated[str | None, Mark.AFTER_TOKENISING, AlsoCalled(("optimizer",))] = None
    """Optimizer name, as in transformers."""
    lr_scheduler_type: Annotated[str | None, Mark.AFTER_TOKENISING, AlsoCalled(("lr_scheduler",))] = None
    """Schedule of the learning rate, as in transformers."""
    warmup_steps: Annotated[float, ZERO_UP, Mark.AFTER_TOKENISING] = 0
    """Steps of warm-up; below 1 it is a share of all steps."""
    weight_decay: Annotated[float, ZERO_UP, Mark.AFTER_TOKENISING] = 0.0
    """Weight decay."""
    max_grad_norm: Annotated[float, ZERO_UP, Mark.AFTER_TOKENISING] = 1.0
    """Gradients are clipped to this norm."""
    logging_steps: Annotated[float, POSITIVE, Mark.AFTER_TOKENISING] = 10
    """Steps between two lines of metrics; below 1 it is a share of all steps."""
    save_steps: Annotated[float, POSITIVE, Mark.AFTER_TOKENISING] = 500
    """Steps between two checkpoints; below 1 it is a share of all steps."""
    save_strategy: Annotated[Literal["no", "steps", "epoch", "best"], Mark.AFTER_TOKENISING] = "steps"
    """When checkpoints are written."""
    save_total_limit: Annotated[int | None, ONE_UP, Mark.AFTER_TOKENISING] = None
    """How many checkpoints are kept."""
    eval_strategy: Annotated[Literal["no", "steps", "epoch"], Mark.AFTER_TOKENISING] = "no"
    """When the evaluation data is looked at."""
    eval_steps: Annotated[float | None, POSITIVE, Mark.AFTER_TOKENISING] = None
    """Steps between two evaluations."""
    report_to: Annotated[str | tuple[str, ...], Mark.AFTER_TOKENISING] = "none"
    """Trackers: tensorboard, wandb, trackio ..."""
    lora: Annotated[Lora | None, Mark.AFTER_TOKENISING] = None
    """The adapter; without it the whole model is trained."""
    quantization: Annotated[Quantization | None, Mark.AFTER_TOKENISING] = None
    """How the base model is loaded; without it in full precision."""
    extra: Annotated[Mapping[str, Any], LibraryKeys("training", paths=("deepspeed",))] = field(
        default_factory=dict
    )
    """Other keys of trl.SFTConfig, written beside these in the policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How the tuned model will be served."""

    __pydantic_config__ = STRICT
    system_prompt: str | None = None
    """The system prompt the server puts in front of every request."""
    max_new_tokens: Annotated[int | None, ONE_UP] = None
    """The output cap."""
    max_input_tokens: Annotated[int | None, ONE_UP] = None
    """The input limit, counted on the rendered prompt."""
    over_limit: Literal["rules", "chunk", "reject"] | None = None
    """What happens to longer inputs: rule-based fallback, chunked analysis, or refusal."""
    rules: Annotated[str | None, PathKind.FILE] = None
    """Path of a JSON file of answers for over_limit rules: [{if_any: [word], answer: ...}, {answer: ...}]."""
    log: Literal["token-counts", "content", "none"] | None = None
    """What request logs hold; anything but token counts is a leak waiting to happen."""
    log_path: Annotated[str | None, PathKind.FILE, Mark.OUTPUT] = None
    """File of the guard's log, a line of JSON a request; the live probes look for a planted word in it."""
    output_schema: Annotated[str | None, PathKind.FILE] = None
    """Path of a JSON Schema that every answer must satisfy."""
    schema_retries: Annotated[int, ZERO_UP] = 0
    """How often an answer that breaks the schema is asked for again, with a stricter prompt."""
    tokenizer: Annotated[str | None, PathKind.MODEL] = None
    """What the server really loads, if it is not the training tokenizer."""
    chat_template: Annotated[str | None, PathKind.FILE] = None
    """Path of the .jinja file the server renders with, if it is not the training template."""
    engine: Literal["vllm", "tgi", "ollama", "llama.cpp", "transformers"] | None = None
    """What serves."""
    max_model_len: Annotated[int | None, ONE_UP] = None
    """The context the server was started with; default: the model's own."""
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Template switches as requests send them (enable_thinking and the like)."""
    engine_version: str | None = None
    """Version of the engine."""
    transformers: str | None = None
    """Version of transformers on the server, where it is not the one here."""
    adapter: Literal["separate", "merged", "merged-4bit"] | None = None
    """Whether the server loads the adapter beside the base model, or a model that it was merged into."""
    max_lora_rank: int | None = None
    """The largest rank the server was started for; vLLM's own default is 16."""
    stop: tuple[str, ...] = ()
    """Further texts that end generation, as requests send them."""
    endpoint: str | None = None
    """The OpenAI-compatible URL that users ask (the guarded proxy), for live probes and for the gold
    answers."""
    endpoint_model: str | None = None
    """The name that serving.endpoint knows the job by; default: the job's own, as exported."""
    upstream: str | None = None
    """The OpenAI-compatible URL of the server behind the proxy, for `ftcheck export litellm`."""
    upstream_model: str | None = None
    """The name that the server behind the proxy knows the model by; default: model.name."""
    tokens_per_second: Annotated[float | None, POSITIVE] = None
    """Output tokens a second of one replica, measured (vllm bench serve)."""
    load_report: Annotated[str | None, PathKind.FILE] = None
    """Path of a JSON report of GuideLLM, AIPerf or `vllm bench serve`, for serving-target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How the tuned model will be evaluated, where that is not how it will be served."""

    __pydantic_config__ = STRICT
    apply_chat_template: bool = True
    """Whether questions go through the chat template (lm-eval's --apply_chat_template)."""
    tokenizer: Annotated[str | None, PathKind.MODEL] = None
    """Hub id or local folder of the tokenizer that evaluation loads; default: the server's."""
    chat_template: Annotated[str | None, PathKind.FILE] = None
    """Path of the .jinja file that evaluation renders with; default: the server's."""
    chat_template_kwargs: Mapping[str, Any] | None = None
    """Template switches as evaluation sends them; default: the server's."""
    system_prompt: str | None = None
    """The system prompt of evaluation; default: the server's."""
    max_new_tokens: int | None = None
    """The output cap of evaluation; default: the server's."""
    batch_size: int | None = None
    """Questions that are generated at once."""
    padding_side: Literal["left", "right"] | None = None
    """Where batches are padded; batched generation needs left."""
    precision: Literal["trained", "full"] = "trained"
    """The base under the adapter when gold questions are answered: quantised as in training, or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What is asked of this job; rules and `ftcheck plan` read the same numbers."""

    __pydantic_config__ = STRICT
    max_length: Annotated[tuple[int, int] | None, ONE_UP] = None
    """Range for training.max_length, in tokens."""
    tokens_per_step: Annotated[tuple[int, int] | None, ONE_UP] = None
    """Range for the tokens of one optimizer step."""
    max_new_tokens: Annotated[tuple[int, int] | None, ONE_UP] = None
    """Range for the output cap."""
    effective_batch: int | None = None
    """Rows (or blocks) of one optimizer step: batch x accumulation x devices."""
    tokens_per_second: Annotated[float | None, POSITIVE] = None
    """Training speed."""
    p95_latency_ms: Annotated[float | None, POSITIVE] = None
    """Serving latency."""
    requests_per_second: Annotated[float | None, POSITIVE] = None
    """Serving load."""
    memory_gib: Annotated[float | None, POSITIVE] = None
    """Peak memory of training, in GiB."""
    accuracy: Annotated[float | None, Limit(at_least=0, at_most=1)] = None
    """Share of gold answers that must be right, between 0 and 1."""
    deadline: Annotated[str | None, Form.DURATION_OR_TIME] = None
    """When training must be done: a duration (8h) or a time."""
    budget: Annotated[float | None, ZERO_UP] = None
    """What training may cost, in the currency of hardware.price_per_hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What the run will have, when this machine is not it."""

    __pydantic_config__ = STRICT
    gpu: str | None = None
    """GPU name, as nvidia-smi prints it or in short (H100, RTX 4090)."""
    count: Annotated[int, ONE_UP] = 1
    """Number of GPUs."""
    memory_gib: Annotated[float | None, POSITIVE] = None
    """Memory of one GPU, in GiB."""
    price_per_hour: Annotated[float | None, ZERO_UP] = None
    """Price of all of them together, an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerChoice:
    """Which trainer stands behind the gate."""

    __pydantic_config__ = STRICT
    use: Annotated[str, Mark.NOT_EMPTY] = "qlora"
    """Name of a trainer: qlora, command, or a plugin's."""
    argv: tuple[str, ...] = ()
    """The command of `command`, as a list: it is printed before it runs."""
    files: Annotated[tuple[str, ...], PathKind.FILE] = ()
    """Files that the command reads; their digests are part of the gate."""
    collator: Literal["trl", "transformers"] = "trl"
    """What makes labels of a batch: TRL's collator, or transformers' DataCollatorForLanguageModeling."""
    instruction_part: str | None = None
    """The text before each question, for a command that masks by markers (unsloth's name)."""
    response_part: str | None = None
    """The text before each answer, for a command that masks by markers (unsloth's name)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """One fine-tuning job under test."""

    __pydantic_config__ = STRICT
    model: Model
    """The base model, its tokenizer and its chat template."""
    data: Data = field(default_factory=Data)
    """The data sets."""
    training: Training = field(default_factory=Training)
    """The training arguments."""
    serving: Serving = field(default_factory=Serving)
    """How the tuned model will be served."""
    evaluation: Evaluation | None = None
    """How the tuned model will be evaluated; default: as it is served."""
    targets: Targets = field(default_factory=Targets)
    """What is asked of this job."""
    hardware: Hardware = field(default_factory=Hardware)
    """What the run will have."""
    trainer: TrainerChoice = field(default_factory=TrainerChoice)
    """Which trainer stands behind the gate."""
    run: Annotated[str | None, PathKind.FILE, Mark.OUTPUT] = None
    """A finished run's folder, for stage `after`; default: training.output_dir."""
    baseline: Annotated[str | None, PathKind.FILE] = None
    """The JSON report of an earlier run's morning after, which this one must not fall behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(JobSettings):
    """A job with its name, and with the place of each of its settings in the policy files.

    Every path in it is absolute. `canonical` is the job's section with the paths relative to the
    policy: what the gate compares.
    """

    name: str
    canonical: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, Location] = field(default_factory=dict)

    @property
    def evaluates(self) -> bool:
        """Whether a training evaluates as it goes on: on data.eval, by training.eval_strategy."""
        return self.training.eval_strategy != "no" and self.data.eval is not None

    @property
    def serves(self) -> bool:
        """Whether the policy says anything of serving. Where it does not, nothing about it is known."""
        return self.states("serving") or self.serving != Serving()

    def states(self, key: str) -> bool:
        """Whether the policy states `serving.system_prompt` (say), or any part of it, null included."""
        return any(one == key or one.startswith(f"{key}.") for one in self.places)

    def at(self, key: str) -> Location:
        """Where `training.max_length` (say) stands in the policy; the nearest section if it is not set."""
        path = f"jobs.{self.name}.{key}" if key else f"jobs.{self.name}"
        parts = key.split(".") if key else []
        while parts and ".".join(parts) not in self.places:
            parts.pop()
        place = self.places.get(".".join(parts), Location())
        return Location(path=place.path, line=place.line, column=place.column, yaml_path=path)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSettings:
    """One check: a rule with its parameters. The check's name is the rule unless `rule` says otherwise."""

    __pydantic_config__ = STRICT
    rule: str | None = None
    """Name of the rule; default: the check's own name."""
    jobs: tuple[str, ...] | None = None
    """Jobs that are looked at; default: every job."""
    severity: Severity | None = None
    """A cap on the severity of its findings."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of the rule (`ftcheck explain RULE` lists them)."""
    timeout: Annotated[float, POSITIVE] = 600.0
    """Seconds after which the rule is stopped."""
    tags: tuple[str, ...] = ()
    """For `ftcheck run -t TAG`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """A finding that is known and accepted for a while: with a reason, an owner and an end."""

    __pydantic_config__ = STRICT
    check: Annotated[str, Mark.NOT_EMPTY]
    """Id of the check: `job::check`, or `check` for a host check."""
    reason: Annotated[str, Mark.NOT_EMPTY]
    """Why it is accepted."""
    owner: Annotated[str, Mark.NOT_EMPTY]
    """Who answers for it."""
    expires: Annotated[date, Form.LAST_DAY]
    """The last day (UTC) on which it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """When training may start."""

    __pydantic_config__ = STRICT
    fail_on: Severity = Severity.ERROR
    """Findings of this severity and above block."""
    require: tuple[str, ...] = ()
    """Checks (ids, `*` allowed) that must have passed, not been skipped or waived."""
    max_age: Annotated[str, Form.DURATION] = "24h"
    """How old a report may be: 90m, 24h, 7d."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """A policy file, after `extends` and `defaults` are merged in."""

    __pydantic_config__ = STRICT
    ftcheck: Literal[1]
    """Version of the policy format."""
    name: str = ""
    """Name in reports; default: the file's."""
    stage: Stage = Stage.BEFORE
    """What `ftcheck run` runs of this policy."""
    extends: tuple[str, ...] = ()
    """Shipped presets by name, or paths; merged in order, mappings deep, lists replaced."""
    plugins: tuple[str, ...] = ()
    """Installed plugins this policy needs, by entry-point name. Nothing else is loaded."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Merged under every job."""
    jobs: Mapping[str, JobSettings] = field(default_factory=dict)
    """The jobs, by name."""
    checks: Mapping[str, CheckSettings] = field(default_factory=dict)
    """The checks, by name; `false` takes one out that a preset put in."""
    waivers: tuple[Waiver, ...] = ()
    """Known findings that are accepted for a while."""
    gate: GateSettings = field(default_factory=GateSettings)
    """When training may start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy that was read: jobs with absolute paths, check settings, waivers, gate, places."""

    path: str
    name: str
    stage: Stage
    jobs: Mapping[str, Job]
    checks: Mapping[str, CheckSettings]
    removed: tuple[str, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    gate: GateSettings = field(default_factory=GateSettings)
    plugins: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    places: Mapping[str, Location] = field(default_factory=dict)

    def at(self, yaml_path: str) -> Location:
        """Where a key of the policy stands; the nearest enclosing key if it is not set itself."""
        parts = yaml_path.split(".")
        while parts and ".".join(parts) not in self.places:
            parts.pop()
        place = self.places.get(".".join(parts), Location(path=self.path, line=1, column=1))
        return Location(path=place.path, line=place.line, column=place.column, yaml_path=yaml_path)
