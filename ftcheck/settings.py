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
    key_of,
)
from ftcheck.importers.records import Imported
from ftcheck.records import Location, Severity, Stage

STRICT = {"extra": "forbid", "strict": True}
"""What pydantic takes: known keys only, of their own type."""
KEYWORDS = {**STRICT, "alias_generator": key_of}
"""The same for a section with a key that is a word of Python's."""


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
    """Rows to which the embedding table is resized before training; default: not resized."""
    trust_remote_code: bool = False
    """Run the code in the model's repository. Off by default; ftcheck never prompts for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gold:
    """Questions with known answers, kept out of training."""

    __pydantic_config__ = STRICT
    path: Annotated[str, PathKind.FILE, Mark.NOT_EMPTY]
    """A .json array or a .jsonl file."""
    input: Annotated[str, Mark.NOT_EMPTY] = "input"
    """The key of the question (a string or a list of messages)."""
    expected: Annotated[str, Mark.NOT_EMPTY] = "expected"
    """The key of the expected answer: a string, a JSON value, or {tool_calls: [...]} for calls of the item's
    `tools`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outliers:
    """What happens to the longest rows. Applied in preparation, and therefore by the trainer too."""

    __pydantic_config__ = STRICT
    above_percentile: Annotated[float, Limit(above=0, at_most=100)] = 99.0
    """Rows longer than this nearest-rank percentile of the lengths are outliers."""
    action: Literal["keep", "drop", "truncate", "chunk"] = "keep"
    """`chunk` splits a plain-text row into several rows of at most that length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How many rows are drawn for a first look at large data, and by which seed."""

    __pydantic_config__ = STRICT
    rows: Annotated[int, Limit(at_least=100)]
    """Rows that are drawn, each as likely as any other; of data with no more rows, all are taken."""
    seed: Annotated[int, ZERO_UP] = 0
    """Other rows are drawn for another seed, the same ones on every machine for the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The datasets of a job."""

    __pydantic_config__ = STRICT
    train: Annotated[str | tuple[str, ...] | None, PathKind.DATA] = None
    """A path, a glob, a list of these, or the name of a dataset on the hub: .jsonl .json .parquet .csv."""
    prepared: Annotated[
        str | None, PathKind.FILE, AlsoCalled(("tokenized_path", "dataset_prepared_path"))
    ] = None
    """Folder of rows that are token ids already and that the trainer reads: what datasets' save_to_disk wrote
    (axolotl's prepared folder, LLaMA-Factory's tokenized_path), .arrow or Parquet files."""
    eval: Annotated[str | tuple[str, ...] | None, PathKind.DATA] = None
    """The evaluation dataset used during training; same form as data.train."""
    gold: Gold | None = None
    """Questions with known answers."""
    benchmarks: Annotated[str | tuple[str, ...] | None, PathKind.DATA] = None
    """Test sets that the training rows must not overlap; same form as data.train."""
    format: Literal["auto", "messages", "prompt-completion", "text", "sharegpt", "alpaca"] = "auto"
    """Row format; `auto` detects it from the keys of the first row."""
    drop_nulls: bool = False
    """Drop keys that are null in tool definitions and inside messages: Parquet files fill them in."""
    outliers: Outliers | None = None
    """What happens to the longest rows."""
    exclude: Annotated[str | None, PathKind.FILE] = None
    """Path of a list of data.train rows to exclude (file, line and digest), as `ftcheck fix` writes it."""
    max_rows: Annotated[int | None, ONE_UP, AlsoCalled(("max_samples", "num_samples"))] = None
    """Only the first rows of data.train, this many; all by default."""
    columns: Annotated[Mapping[str, str] | None, AlsoCalled(("column_map", "rename_columns"))] = None
    """New names of columns by their old ones, as datasets' rename_columns takes them."""
    validation_split: Annotated[
        float | None, Limit(above=0, below=1), AlsoCalled(("val_set_size", "val_size", "test_split_size"))
    ] = None
    """Share of data.train that is held out for evaluation, the rows of datasets' train_test_split(seed)."""
    role_map: Mapping[str, str] | None = None
    """Roles of messages as chat templates know them, by the names that the data uses: {human: user}."""
    sample: Sampling | None = None
    """Check this many rows of data.train, drawn at random, in the place of all; numbers are then intervals,
    and the gate stays shut unless gate.accept_sample names the job. All rows are trained all the same."""


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
    """Modules that are trained in full and saved with the adapter."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Which biases are trained."""
    use_rslora: bool = False
    """Scale by lora_alpha / sqrt(r)."""
    use_dora: bool = False
    """Weight-decomposed LoRA."""
    extra: Annotated[Mapping[str, Any], LibraryKeys("training.lora")] = field(default_factory=dict)
    """Other keys of peft.LoraConfig, written next to these in the policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """How the base model is loaded: names and meaning as in transformers.BitsAndBytesConfig."""

    __pydantic_config__ = STRICT
    load_in_4bit: bool = False
    """4-bit weights (QLoRA)."""
    load_in_8bit: bool = False
    """8-bit weights (LLM.int8)."""
    bnb_4bit_quant_type: Annotated[Literal["fp4", "nf4"], AlsoCalled(("quant_type",))] = "fp4"
    """4-bit data type; the default of bitsandbytes is fp4, QLoRA uses nf4."""
    bnb_4bit_use_double_quant: bool = False
    """Quantise the quantisation constants too: 0.516 instead of 0.5625 bytes per weight."""
    bnb_4bit_compute_dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None, AlsoCalled(("compute_dtype",))
    ] = None
    """Compute dtype; the default of bitsandbytes is float32, which is slow."""
    bnb_4bit_quant_storage: Literal["uint8", "bfloat16", "float16", "float32"] | None = None
    """Storage dtype of the 4-bit weights; must equal the model's dtype under FSDP."""
    extra: Annotated[Mapping[str, Any], LibraryKeys("training.quantization")] = field(default_factory=dict)
    """Other keys of transformers.BitsAndBytesConfig, written next to these in the policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The training arguments: names, meanings and defaults as in trl.SFTConfig (1.16)."""

    __pydantic_config__ = STRICT
    max_length: Annotated[
        int | None, ONE_UP, Mark.AFTER_TOKENISING, Mark.PREPARED, AlsoCalled(("sequence_len", "cutoff_len"))
    ] = 1024
    """Rows are truncated to this many tokens; with packing, also the length of a block."""
    truncation_mode: Annotated[Literal["keep_start", "keep_end"], Mark.AFTER_TOKENISING, Mark.PREPARED] = (
        "keep_start"
    )
    """Which end of a row longer than max_length is kept."""
    packing: Annotated[bool, Mark.AFTER_TOKENISING, AlsoCalled(("sample_packing",))] = False
    """Fill blocks of max_length with several rows."""
    packing_strategy: Annotated[Literal["bfd", "bfd_split", "wrapped"], Mark.AFTER_TOKENISING] = "bfd"
    """TRL's packing strategy."""
    packing_planner: Annotated[Literal["optimal", "trl"], Mark.AFTER_TOKENISING, Mark.OWN] = "optimal"
    """ftcheck's own key: `trl` packs each 1,000 rows separately, `optimal` all into the fewest blocks."""
    padding_free: Annotated[bool, Mark.AFTER_TOKENISING] = False
    """Flatten a batch into one row without padding."""
    per_device_train_batch_size: Annotated[
        int, ONE_UP, Mark.AFTER_TOKENISING, AlsoCalled(("batch_size", "micro_batch_size"))
    ] = 8
    """Rows (or blocks) per device and batch."""
    per_device_eval_batch_size: Annotated[int, ONE_UP, Mark.AFTER_TOKENISING] = 8
    """Rows per device and batch during evaluation."""
    gradient_accumulation_steps: Annotated[int, ONE_UP, Mark.AFTER_TOKENISING] = 1
    """Batches accumulated per optimizer step."""
    learning_rate: Annotated[float, POSITIVE, Mark.AFTER_TOKENISING, AlsoCalled(("lr",))] = 2e-5
    """Peak learning rate."""
    num_train_epochs: Annotated[
        float, POSITIVE, Mark.AFTER_TOKENISING, AlsoCalled(("epochs", "num_epochs"))
    ] = 3.0
    """Number of epochs."""
    max_steps: Annotated[int, Limit(at_least=-1), Mark.AFTER_TOKENISING] = -1
    """Number of optimizer steps; if positive, overrides num_train_epochs."""
    assistant_only_loss: Annotated[bool, Mark.PREPARED] = False
    """Compute the loss on assistant turns only; the template needs {% generation %} markers."""
    completion_only_loss: Annotated[bool | None, Mark.PREPARED] = None
    """Compute the loss on the completion only; default: true for prompt-completion rows."""
    dataset_text_field: Annotated[str, Mark.PREPARED] = "text"
    """The key of plain-text rows."""
    eos_token: str | None = None
    """End-of-sequence token; default: the tokenizer's."""
    output_dir: Annotated[str | None, PathKind.FILE, Mark.OUTPUT, Mark.AFTER_TOKENISING] = None
    """The run folder: checkpoints, adapter, run.json, metrics.jsonl."""
    seed: Annotated[int, ZERO_UP, Mark.AFTER_TOKENISING] = 42
    """Seed for the adapter's initial weights and the order of the rows."""
    gradient_checkpointing: Annotated[bool, Mark.AFTER_TOKENISING, Mark.RENAMED] = True
    """Recompute activations in the backward pass."""
    bf16: Annotated[bool | None, Mark.AFTER_TOKENISING] = None
    """Compute in bfloat16; TRL's default is true unless fp16 is set."""
    fp16: Annotated[bool, Mark.AFTER_TOKENISING] = False
    """Compute in float16."""
    optim: Annotated[str | None, Mark.AFTER_TOKENISING, AlsoCalled(("optimizer",))] = None
    """Name of the optimizer, as in transformers."""
    lr_scheduler_type: Annotated[str | None, Mark.AFTER_TOKENISING, AlsoCalled(("lr_scheduler",))] = None
    """Learning-rate schedule, as in transformers."""
    warmup_steps: Annotated[float, ZERO_UP, Mark.AFTER_TOKENISING] = 0
    """Warm-up steps; a value below 1 is a fraction of all steps."""
    weight_decay: Annotated[float, ZERO_UP, Mark.AFTER_TOKENISING] = 0.0
    """Weight decay."""
    max_grad_norm: Annotated[float, ZERO_UP, Mark.AFTER_TOKENISING] = 1.0
    """Gradient clipping norm."""
    logging_steps: Annotated[float, POSITIVE, Mark.AFTER_TOKENISING] = 10
    """Log metrics every this many steps; a value below 1 is a fraction of all steps."""
    save_steps: Annotated[float, POSITIVE, Mark.AFTER_TOKENISING] = 500
    """Save a checkpoint every this many steps; a value below 1 is a fraction of all steps."""
    save_strategy: Annotated[Literal["no", "steps", "epoch", "best"], Mark.AFTER_TOKENISING] = "steps"
    """When checkpoints are saved."""
    save_total_limit: Annotated[int | None, ONE_UP, Mark.AFTER_TOKENISING] = None
    """Maximum number of checkpoints to keep; default: all."""
    eval_strategy: Annotated[Literal["no", "steps", "epoch"], Mark.AFTER_TOKENISING] = "no"
    """When evaluation runs during training."""
    eval_steps: Annotated[float | None, POSITIVE, Mark.AFTER_TOKENISING] = None
    """Evaluate every this many steps; default: logging_steps."""
    report_to: Annotated[str | tuple[str, ...], Mark.AFTER_TOKENISING] = "none"
    """Experiment trackers: tensorboard, wandb, trackio and others."""
    lora: Annotated[Lora | None, Mark.AFTER_TOKENISING] = None
    """The adapter; if not set, all weights of the model are trained."""
    quantization: Annotated[Quantization | None, Mark.AFTER_TOKENISING] = None
    """Quantisation of the base model; if not set, it is loaded in full precision."""
    extra: Annotated[Mapping[str, Any], LibraryKeys("training", paths=("deepspeed", "fsdp_config"))] = field(
        default_factory=dict
    )
    """Other keys of trl.SFTConfig, written next to these in the policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How the tuned model will be served."""

    __pydantic_config__ = STRICT
    system_prompt: str | None = None
    """The system prompt that the server prepends to every request."""
    max_new_tokens: Annotated[int | None, ONE_UP] = None
    """Limit on output tokens."""
    max_input_tokens: Annotated[int | None, ONE_UP] = None
    """Limit on input tokens, counted on the rendered prompt."""
    over_limit: Literal["rules", "chunk", "reject"] | None = None
    """What happens to inputs above max_input_tokens: rule-based answers, chunked analysis, or rejection."""
    rules: Annotated[str | None, PathKind.FILE] = None
    """JSON file of answers for `over_limit: rules`: [{if_any: [word], answer: ...}, {answer: ...}]."""
    log: Literal["token-counts", "content", "none"] | None = None
    """What the request logs contain; `content` stores user data in the logs."""
    log_path: Annotated[str | None, PathKind.FILE, Mark.OUTPUT] = None
    """The guard's log, one JSON object per request; the live probes search it for a planted word."""
    output_schema: Annotated[str | None, PathKind.FILE] = None
    """Path of a JSON Schema that every answer must satisfy."""
    schema_retries: Annotated[int, ZERO_UP] = 0
    """How often a request is retried, with a stricter prompt, if its answer violates the schema."""
    tokenizer: Annotated[str | None, PathKind.MODEL] = None
    """Tokenizer that the server loads; default: the training tokenizer."""
    chat_template: Annotated[str | None, PathKind.FILE] = None
    """Path of the .jinja file that the server renders with; default: the training template."""
    engine: Literal["vllm", "sglang", "tgi", "ollama", "llama.cpp", "transformers"] | None = None
    """The serving engine."""
    tool_parser: Annotated[str | None, Mark.NOT_EMPTY, AlsoCalled(("tool_call_parser",))] = None
    """Name of the parser that the engine reads tool calls with (--tool-call-parser): hermes, llama3_json,
    mistral and others."""
    max_model_len: Annotated[int | None, ONE_UP] = None
    """Context length that the server is started with; default: the model's own."""
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Template variables that requests send (such as enable_thinking)."""
    engine_version: str | None = None
    """Version of the engine."""
    transformers: str | None = None
    """Version of transformers on the server; default: the one installed here."""
    adapter: Literal["separate", "merged", "merged-4bit"] | None = None
    """How the server loads the adapter: separately, or merged into the base model."""
    max_lora_rank: int | None = None
    """Largest LoRA rank that the server is started for; vLLM's default is 16."""
    stop: tuple[str, ...] = ()
    """Additional stop strings that requests send."""
    endpoint: Annotated[str | None, Form.URL] = None
    """OpenAI-compatible URL that users send requests to (the guarded proxy), for live probes and for
    the gold answers."""
    endpoint_model: str | None = None
    """The job's model name at serving.endpoint; default: the job's own name, as exported."""
    upstream: Annotated[str | None, Form.URL] = None
    """OpenAI-compatible URL of the server behind the proxy, for `ftcheck export litellm`."""
    upstream_model: str | None = None
    """The model's name on the server behind the proxy; default: model.name."""
    tokens_per_second: Annotated[float | None, POSITIVE] = None
    """Output tokens per second of one replica, measured (for example with vllm bench serve)."""
    load_report: Annotated[str | None, PathKind.FILE] = None
    """Path of a JSON report of GuideLLM, AIPerf or `vllm bench serve`, for serving-target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How the tuned model will be evaluated, where this differs from serving."""

    __pydantic_config__ = STRICT
    apply_chat_template: bool = True
    """Whether questions are rendered with the chat template (lm-eval's --apply_chat_template)."""
    tokenizer: Annotated[str | None, PathKind.MODEL] = None
    """Hub id or local folder of the tokenizer for evaluation; default: the server's."""
    chat_template: Annotated[str | None, PathKind.FILE] = None
    """Path of the .jinja file that evaluation renders with; default: the server's."""
    chat_template_kwargs: Mapping[str, Any] | None = None
    """Template variables for evaluation; default: the server's."""
    system_prompt: str | None = None
    """System prompt for evaluation; default: the server's."""
    max_new_tokens: int | None = None
    """Limit on output tokens in evaluation; default: the server's."""
    batch_size: int | None = None
    """Number of questions answered per batch."""
    padding_side: Literal["left", "right"] | None = None
    """Side on which batches are padded; batched generation needs left."""
    compute_metrics: bool = False
    """Whether evaluations during training compute metrics on the logits (Trainer's compute_metrics)."""
    precision: Literal["trained", "full"] = "trained"
    """Precision of the base model when it answers gold questions: quantised as in training, or full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The targets of this job; rules and `ftcheck plan` read the same numbers."""

    __pydantic_config__ = STRICT
    max_length: Annotated[tuple[int, int] | None, ONE_UP] = None
    """Range for training.max_length, in tokens."""
    tokens_per_step: Annotated[tuple[int, int] | None, ONE_UP] = None
    """Range for the tokens per optimizer step."""
    max_new_tokens: Annotated[tuple[int, int] | None, ONE_UP] = None
    """Range for serving.max_new_tokens."""
    effective_batch: int | None = None
    """Rows (or blocks) per optimizer step: batch x accumulation x devices."""
    tokens_per_second: Annotated[float | None, POSITIVE] = None
    """Training speed, in tokens per second."""
    p95_latency_ms: Annotated[float | None, POSITIVE] = None
    """95th percentile of the serving latency, in milliseconds."""
    requests_per_second: Annotated[float | None, POSITIVE] = None
    """Serving load, in requests per second."""
    memory_gib: Annotated[float | None, POSITIVE] = None
    """Peak memory of training, in GiB."""
    accuracy: Annotated[float | None, Limit(at_least=0, at_most=1)] = None
    """Minimum share of correct gold answers, between 0 and 1."""
    deadline: Annotated[str | None, Form.DURATION_OR_TIME] = None
    """When training must be finished: a duration (8h) or a time."""
    budget: Annotated[float | None, ZERO_UP] = None
    """Maximum cost of training, in the currency of hardware.price_per_hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The hardware of the run; default: this machine."""

    __pydantic_config__ = STRICT
    gpu: str | None = None
    """GPU name, as nvidia-smi prints it or abbreviated (H100, RTX 4090)."""
    count: Annotated[int, ONE_UP] = 1
    """Number of GPUs."""
    memory_gib: Annotated[float | None, POSITIVE] = None
    """Memory of one GPU, in GiB."""
    price_per_hour: Annotated[float | None, ZERO_UP] = None
    """Price of all GPUs together, per hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerChoice:
    """Which trainer `ftcheck train` starts once the gate is open."""

    __pydantic_config__ = STRICT
    use: Annotated[str, Mark.NOT_EMPTY] = "qlora"
    """Name of the trainer: qlora, axolotl, llama-factory, command, or one from a plugin."""
    argv: tuple[str, ...] = ()
    """Command line of the trainer `command`, as a list; it is printed before it runs. For axolotl and
    llama-factory: how they are started, in the place of `axolotl train` and `llamafactory-cli train`."""
    files: Annotated[tuple[str, ...], PathKind.FILE] = ()
    """Files that the command reads; the gate compares their digests. For axolotl and llama-factory: their
    configuration, where `from` names none."""
    collator: Literal["trl", "transformers"] = "trl"
    """The collator that builds the labels: TRL's, or transformers' DataCollatorForLanguageModeling."""
    instruction_part: str | None = None
    """The text before each question, for a command that masks by markers (unsloth's name)."""
    response_part: str | None = None
    """The text before each answer, for a command that masks by markers (unsloth's name)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """One fine-tuning job under test."""

    __pydantic_config__ = KEYWORDS
    model: Model
    """The base model, its tokenizer and its chat template."""
    from_: Mapping[str, str] | None = None
    """Another framework's configuration, by its name: {axolotl: qlora.yml}. It is read at each run; what the
    policy states beside it overrides it."""
    data: Data = field(default_factory=Data)
    """The datasets."""
    training: Training = field(default_factory=Training)
    """The training arguments."""
    serving: Serving = field(default_factory=Serving)
    """How the tuned model will be served."""
    evaluation: Evaluation | None = None
    """How the tuned model will be evaluated; default: as served."""
    targets: Targets = field(default_factory=Targets)
    """The targets of this job."""
    hardware: Hardware = field(default_factory=Hardware)
    """The hardware of the run."""
    trainer: TrainerChoice = field(default_factory=TrainerChoice)
    """Which trainer `ftcheck train` starts once the gate is open."""
    run: Annotated[str | None, PathKind.FILE, Mark.OUTPUT] = None
    """Folder of a finished run, for stage `after`; default: training.output_dir."""
    baseline: Annotated[str | None, PathKind.FILE] = None
    """JSON report of an earlier run at stage `after`, the baseline that this run must not fall below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(JobSettings):
    """A job with its name, and with the place of each of its settings in the policy files.

    Every path in it is absolute. `canonical` is the job's section with the paths relative to the
    policy: what the gate compares. `imported` is what was read of the configuration that `from` names.
    """

    name: str
    canonical: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, Location] = field(default_factory=dict)
    imported: Imported | None = None

    @property
    def label(self) -> str:
        """The job's name, for what is said of work that it does not change: progress, notes, errors."""
        return self.name

    @property
    def divided(self) -> bool:
        """Whether rows of data.train are held out for evaluation; a command reads the files itself."""
        own = self.trainer.use != "command" and self.data.prepared is None
        return self.data.validation_split is not None and own

    @property
    def evaluable(self) -> bool:
        """Whether there may be rows for evaluation: those of data.eval, some that are held out, or a split of
        data.prepared, which need not have one.
        """
        return self.data.eval is not None or self.divided or self.data.prepared is not None

    @property
    def evaluates(self) -> bool:
        """Whether a training evaluates as it goes on, by training.eval_strategy."""
        return self.training.eval_strategy != "no" and self.evaluable

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
    """Jobs that are checked; default: all jobs."""
    severity: Severity | None = None
    """Upper limit on the severity of its findings."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of the rule (`ftcheck explain RULE` lists them)."""
    timeout: Annotated[float, POSITIVE] = 600.0
    """Seconds after which the rule is stopped."""
    tags: tuple[str, ...] = ()
    """Tags for `ftcheck run -t TAG`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """A known finding that is accepted for a limited time, with a reason, an owner and an expiry date."""

    __pydantic_config__ = STRICT
    check: Annotated[str, Mark.NOT_EMPTY]
    """Id of the check: `job::check`, or `check` for a host check."""
    reason: Annotated[str, Mark.NOT_EMPTY]
    """Why the finding is accepted."""
    owner: Annotated[str, Mark.NOT_EMPTY]
    """Who is responsible for it."""
    expires: Annotated[date, Form.LAST_DAY]
    """Last day (UTC) on which the waiver is valid."""
    fingerprints: tuple[str, ...] = ()
    """The findings that are accepted, by their fingerprints in the report; `ftcheck waive` writes them.
    Others of the same check are not waived. Without them a waiver covers whatever the check finds."""
    all: bool = False
    """Accept whatever the check finds, for at most 14 days: where there are too many findings to name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """When training may start."""

    __pydantic_config__ = STRICT
    fail_on: Severity = Severity.ERROR
    """Findings of this severity and above block training."""
    require: tuple[str, ...] = ()
    """Checks (ids, `*` allowed) that must have passed; skipped or waived is not enough."""
    max_age: Annotated[str, Form.DURATION] = "24h"
    """Maximum age of a report: 90m, 24h, 7d."""
    accept_sample: tuple[str, ...] = ()
    """Jobs that may be trained although only a sample of their rows was checked (data.sample)."""
    require_signed: Annotated[str | tuple[str, ...], PathKind.SIGNER] = ()
    """The gate opens only for a report that one of these signed (`ftcheck attest`): a file with a public key,
    or an identity (ISSUER#SUBJECT, or an email address) that sigstore vouches for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """A policy file, with `extends` and `defaults` merged in."""

    __pydantic_config__ = STRICT
    ftcheck: Literal[1]
    """Version of the policy format."""
    name: str = ""
    """Name shown in reports; default: the file's name."""
    stage: Stage = Stage.BEFORE
    """The stage that `ftcheck run` runs by default."""
    extends: tuple[str, ...] = ()
    """Shipped presets by name, or paths; merged in order: mappings recursively, lists replaced."""
    plugins: tuple[str, ...] = ()
    """Installed plugins that this policy needs, by entry-point name. No others are loaded."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Settings that apply to every job unless the job sets them."""
    jobs: Mapping[str, JobSettings] = field(default_factory=dict)
    """The jobs, by name."""
    checks: Mapping[str, CheckSettings] = field(default_factory=dict)
    """The checks, by name; `false` removes one that a preset added."""
    waivers: tuple[Waiver, ...] = ()
    """Known findings that are accepted for a limited time."""
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
