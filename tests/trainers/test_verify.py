"""`ticket.verify`: what a script of one's own is about to train is what was checked, row by row.

What must be found was written down first: the row, the token (from 1), and both texts.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

import ftcheck
from ftcheck import Refused, Ticket
from tests.older_ids import older_digest, with_ids
from tests.trainers import small

pytest.importorskip("trl")
pytestmark = [pytest.mark.train]

KIND = """{{ bos_token }}<|start_header_id|>system<|end_header_id|>

Be kind.<|eot_id|>{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>

{% if message.role == 'assistant' %}{% generation %}{{ message.content }}<|eot_id|>{% endgeneration %}\
{% else %}{{ message.content }}<|eot_id|>{% endif %}{% endfor %}"""
"""Another template than the checked one: after its first two tokens, system instead of user."""

CALLS = """{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>
{{ message.content }}{% for call in message.tool_calls or [] %}{{ call.function.arguments | tojson }}\
{% endfor %}<|eot_id|>{% endfor %}"""
"""A template that writes tool calls."""

ARGUMENTS: dict[str, Any] = {
    "max_length": 96,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 2,
    "per_device_eval_batch_size": 8,
    "learning_rate": 5e-3,
    "max_steps": 24,
    "warmup_steps": 3,
    "eval_strategy": "steps",
    "eval_steps": 4,
    "assistant_only_loss": True,
    "use_cpu": True,
    "report_to": "none",
    "activation_checkpointing": False,
    "disable_tqdm": True,
}
"""What the policy of the small job says, as its author writes it in a script."""


@dataclass
class Own:
    """A folder with the small job, its report, and trainers as its owner's script makes them."""

    folder: Path
    overrides: list[str] = field(default_factory=list)
    packing: dict[str, Any] = field(default_factory=dict)

    def checked(self) -> None:
        """Run the checks, and store their report."""
        sets = [word for one in self.overrides for word in ("--set", one)]
        words = small.ftcheck("run", "policy.yaml", "-o", "json=night.json", *sets)
        log = self.folder / "log.txt"
        assert small.forked(words, self.folder, log).wait() == 0, log.read_text(encoding="utf-8")

    def ticket(self) -> Ticket:
        policy = self.folder / "policy.yaml"
        return ftcheck.require(
            self.folder / "night.json", policy=policy, job="small", overrides=self.overrides
        )

    def rows(self, split: str = "train") -> Any:
        from datasets import load_dataset

        cache = str(self.folder / "datasets")
        file = str(self.folder / f"{split}.jsonl")
        return load_dataset("json", data_files=file, split="train", cache_dir=cache)

    def tokenizer(self, template: str | None = None) -> Any:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self.folder / "model")
        if template is not None:
            tokenizer.chat_template = template
        return tokenizer

    def trainer(
        self,
        train: Any = None,
        evaluation: Any = None,
        *,
        tokenizer: Any = None,
        collator: Any = None,
        **arguments: Any,
    ) -> Any:
        """TRL's trainer on this data set (the job's, if none is given)."""
        from trl import SFTConfig, SFTTrainer

        config = SFTConfig(str(self.folder / "run"), **ARGUMENTS | arguments)
        evaluates = config.eval_strategy != "no"
        if evaluation is None and evaluates:
            evaluation = self.rows("eval")
        return SFTTrainer(
            str(self.folder / "model"),
            config,
            train_dataset=self.rows() if train is None else train,
            eval_dataset=evaluation if evaluates else None,
            processing_class=tokenizer,
            data_collator=collator,
        )

    def refused(self, trainer: Any) -> str:
        """The one line with which the trainer is refused."""
        with pytest.raises(Refused) as refused:
            self.ticket().verify(trainer)
        assert "\n" not in str(refused.value)
        return str(refused.value)


@pytest.fixture(scope="module")
def own(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Own:
    """The small job, checked."""
    made = Own(tmp_path_factory.mktemp("own"))
    small.make_project(made.folder, model_folder)
    made.checked()
    return made


def answers_moved(row: dict[str, Any], index: int, answers: list[Any]) -> dict[str, Any]:
    """Rows 5 and 7 with each other's answer."""
    taken = {4: 6, 6: 4}.get(index, index)
    return {"messages": [row["messages"][0], answers[taken]]}


def test_the_same_rows_are_verified(own: Own) -> None:
    own.ticket().verify(own.trainer())


def test_rows_are_held_against_a_report_with_its_ids_in_the_older_form(own: Own) -> None:
    trainer = own.trainer()
    report = own.folder / "night.json"
    kept = report.read_bytes()
    fed = [(one["input_ids"], one["labels"]) for one in trainer.train_dataset]
    with_ids(report, "small", older_digest(fed))
    try:
        own.ticket().verify(trainer)
        answers = [row["messages"][1] for row in own.rows()]
        other = own.rows().map(answers_moved, with_indices=True, fn_kwargs={"answers": answers})
        assert "refused (ids-changed): training row 5 (" in own.refused(own.trainer(other))
    finally:
        report.write_bytes(kept)


def test_another_template_is_named_by_row_and_token_with_both_texts(own: Own) -> None:
    said = own.refused(own.trainer(tokenizer=own.tokenizer(KIND)))

    assert "refused (ids-changed): training row 1 (" in said
    assert "train.jsonl:1): token 3 differs: " in said
    checked, _, fed = said.partition("the trainer feeds")
    assert "<|begin_of_text|><|start_header_id|>user<|end_header_id|>" in checked
    assert "<|begin_of_text|><|start_header_id|>system<|end_header_id|>" in fed


def test_a_shuffled_column_is_named_by_its_first_row(own: Own) -> None:
    rows = own.rows()
    answers = [one["messages"][1] for one in rows]

    said = own.refused(
        own.trainer(rows.map(answers_moved, with_indices=True, fn_kwargs={"answers": answers}))
    )

    # Order 4 and order 6 have the same intent: only the number differs.
    assert "training row 5 (" in said
    assert "train.jsonl:5): token " in said
    checked, _, fed = said.partition("the trainer feeds")
    assert '"order": 4' in checked
    assert '"order": 6' in fed


def test_rows_in_another_order_are_named_as_such(own: Own) -> None:
    rows = own.rows()

    said = own.refused(own.trainer(rows.select([*range(10), *range(59, 9, -1)])))

    assert "training row 11 (" in said
    assert "train.jsonl:11)" in said
    assert "the same 60 rows in another order" in said
    assert "row 60 of the checked rows is in its place" in said


def test_a_row_that_is_missing_is_named(own: Own) -> None:
    said = own.refused(own.trainer(own.rows().select([*range(20), *range(21, 60)])))

    assert "training row 21 (" in said
    assert "train.jsonl:21)" in said
    assert "the trainer has 59 rows, 60 were checked" in said


def test_another_max_length_is_named_where_the_first_row_ends(own: Own) -> None:
    from trl import SFTTrainer

    long = own.trainer()
    assert isinstance(long, SFTTrainer)
    lengths = [len(ids) for ids in long.train_dataset["input_ids"]]
    first = next(n for n, length in enumerate(lengths, 1) if length > 40)

    said = own.refused(own.trainer(max_length=40))

    assert f"training row {first} (" in said
    assert "token 41 differs" in said
    assert "the trainer feeds nothing more" in said


def test_a_collator_that_trains_on_prompts_is_named_by_token(own: Own) -> None:
    from transformers import DataCollatorWithPadding

    class Everything(DataCollatorWithPadding):  # type: ignore[misc]
        def __call__(self, rows: list[dict[str, Any]]) -> Any:
            batch = super().__call__([{"input_ids": row["input_ids"]} for row in rows])
            return batch | {"labels": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)}

    said = own.refused(own.trainer(collator=Everything(own.tokenizer())))

    assert "training row 1 (" in said
    assert "made by Everything" in said
    assert (
        "token 2 ('<|start_header_id|>') is in the loss in the trainer and was masked in the checks" in said
    )


def test_a_collator_that_cannot_read_the_rows_is_not_passed_over(own: Own) -> None:
    from transformers import DataCollatorForLanguageModeling

    collator = DataCollatorForLanguageModeling(own.tokenizer(), mlm=False)

    said = own.refused(own.trainer(collator=collator))

    assert "refused (unverified): training rows: DataCollatorForLanguageModeling fails on row 1" in said


def test_a_changed_evaluation_row_is_named(own: Own) -> None:
    rows = [json.loads(line) for line in (own.folder / "eval.jsonl").read_text(encoding="utf-8").splitlines()]
    rows[2]["messages"][1]["content"] = "no"
    (own.folder / "other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    said = own.refused(own.trainer(evaluation=own.rows("other")))

    assert "evaluation row 3 (" in said
    assert "eval.jsonl:3): token " in said
    assert "no<|eot_id|>" in said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"learning_rate": 1e-3}, ["training.learning_rate", "0.005", "0.001", "policy.yaml:13"]),
        ({"gradient_accumulation_steps": 1}, ["gradient_accumulation_steps", "16 rows", "8 in the trainer"]),
        ({"max_steps": 48}, ["training.max_steps", "24", "48"]),
    ],
)
def test_settings_that_train_otherwise_are_named(
    own: Own, arguments: dict[str, Any], expected: list[str]
) -> None:
    said = own.refused(own.trainer(**arguments))

    assert "arguments-changed" in said
    assert [one for one in expected if one not in said] == []


def test_settings_that_the_policy_does_not_state_are_the_scripts_own(own: Own) -> None:
    own.ticket().verify(own.trainer(weight_decay=0.01, logging_steps=2, seed=7))


def test_rows_that_stream_cannot_be_verified(own: Own) -> None:
    trainer = own.trainer(own.rows().to_iterable_dataset())

    assert "refused (unverified): " in own.refused(trainer)


class Numbers(IterableDataset[dict[str, Any]]):  # type: ignore[misc]
    """Rows of a data set of torch's that streams."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield {"input_ids": [1, 2], "labels": [1, 2]}

    def __len__(self) -> int:
        return 1


def test_a_loader_whose_rows_stream_cannot_be_verified(own: Own) -> None:
    with pytest.raises(Refused, match=r"\(unverified\): training rows: the rows stream \(Numbers\)"):
        own.ticket().verify(DataLoader(Numbers()))


# --- what is fed otherwise than it lies, and what cannot be read ----------------------------------------


def loaded(own: Own, rows: Any = None, collate: Any = None, **given: Any) -> Any:
    """A data loader of torch on the job's rows, as a loop of one's own has it."""
    from transformers import DataCollatorForSeq2Seq

    rows = own.trainer().train_dataset.select_columns(["input_ids", "labels"]) if rows is None else rows
    collate = collate or DataCollatorForSeq2Seq(own.tokenizer())
    return DataLoader(rows, **{"batch_size": 8} | given, collate_fn=collate)


def behind_one_another(rows: list[dict[str, Any]]) -> Any:
    """Rows in one, without a word where each begins: each is read with those before it in view."""
    names = ("input_ids", "labels")
    return {name: torch.tensor([[value for row in rows for value in row[name]]]) for name in names}


def test_padding_that_is_trained_is_named_though_the_attention_mask_leaves_it_out(own: Own) -> None:
    def change(batch: Any) -> None:
        batch["labels"] = torch.where(batch["attention_mask"] == 0, batch["input_ids"], batch["labels"])

    said = own.refused(wrapping(own.trainer(), change))

    # Row 1 has 36 tokens.
    assert "row 1: token 37 is in the loss although attention_mask leaves it out" in said


def test_one_row_that_a_collator_of_ones_own_cuts_is_found_among_many(
    model_folder: Path, tmp_path: Path
) -> None:
    own = Own(tmp_path, ["jobs.small.training.eval_strategy=no"])
    small.make_project(tmp_path, model_folder, rows=400)
    own.checked()
    trainer = own.trainer(eval_strategy="no")
    cut = torch.tensor(trainer.train_dataset[69]["input_ids"])

    def change(batch: Any) -> None:
        for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
            if ids[: len(cut)].equal(cut):
                labels[-3:] = labels[len(cut) - 3 :] = -100

    assert "train.jsonl:70): token " in own.refused(wrapping(trainer, change))


def test_rows_behind_one_another_must_say_where_each_begins(own: Own) -> None:
    from transformers import DataCollatorWithFlattening

    own.ticket().verify(own.trainer(collator=DataCollatorWithFlattening()))

    with pytest.raises(Refused, match="behind_one_another puts sequences behind one another, and neither"):
        own.ticket().verify(loaded(own, collate=behind_one_another))


def test_a_mask_of_pairs_of_tokens_is_none_of_padding(own: Own) -> None:
    def change(batch: Any) -> None:
        rows, width = batch["input_ids"].shape
        batch["attention_mask"] = torch.full((rows, 1, width, width), float("-inf")).triu(1)

    own.ticket().verify(wrapping(own.trainer(), change))


def test_columns_that_are_kept_beside_ids_and_labels_are_not_read(own: Own) -> None:
    trainer = own.trainer(remove_unused_columns=False)

    assert "messages" in trainer.train_dataset.column_names
    own.ticket().verify(trainer)


class Half(RandomSampler):  # type: ignore[misc]
    """It is a RandomSampler, and draws something else."""

    def __iter__(self) -> Iterator[int]:
        return iter([*range(30), *range(30)])


class Some(BatchSampler):  # type: ignore[misc]
    """Batches without every third row."""

    def __iter__(self) -> Iterator[list[int]]:
        for batch in super().__iter__():
            yield [number for number in batch if number % 3]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sampler": Half(range(60))}, "Half draws 30 of the 60 rows in 60 draws"),
        ({"sampler": SequentialSampler(range(10))}, "SequentialSampler draws 10 of the 60 rows"),
        ({"sampler": DistributedSampler(range(60), 4, 0)}, "DistributedSampler draws 15 of the 60 rows"),
        (
            {"batch_sampler": Some(RandomSampler(range(60)), 8, drop_last=False), "batch_size": 1},
            "Some draws 40 of the 60 rows",
        ),
    ],
)
def test_a_sampler_that_leaves_rows_out_is_named(own: Own, given: Any, said: str) -> None:
    with pytest.raises(Refused, match=f"unverified.*the sampler {said}"):
        own.ticket().verify(loaded(own, **given))


class Batches(BatchSampler):  # type: ignore[misc]
    """Somebody's batches."""


class Unmeasured(Sampler):  # type: ignore[misc]
    """torch asks no sampler for its length."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(60))


@pytest.mark.parametrize(
    "given",
    [
        {"batch_sampler": Batches(RandomSampler(range(60)), 8, drop_last=True), "batch_size": 1},
        {"sampler": Unmeasured()},
    ],
)
def test_a_sampler_of_ones_own_that_draws_each_row_once_is_none_to_refuse(own: Own, given: Any) -> None:
    own.ticket().verify(loaded(own, **given))


def test_verifying_leaves_a_sampler_with_a_generator_of_its_own_as_it_was(own: Own) -> None:
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()

    own.ticket().verify(loaded(own, sampler=SubsetRandomSampler(range(60), generator=generator)))

    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"input_ids": [[1, 2]], "labels": [1]}, "the column labels contains no lists, but int64"),
        ({"input_ids": [[1], None], "labels": [[1], None]}, "the column input_ids has missing values"),
        ({"input_ids": [[1, 2]], "labels": [[1]]}, r"row 1: input_ids of shape \(2,\) and labels of shape"),
    ],
)
def test_columns_that_are_no_rows_of_tokens_are_refused_in_a_line(own: Own, columns: Any, said: str) -> None:
    from datasets import Dataset

    with pytest.raises(Refused, match=said):
        own.ticket().verify(loaded(own, Dataset.from_dict(columns)))


def test_what_is_no_loader_is_refused_in_a_line(own: Own) -> None:
    for given in (own.rows(), [{"input_ids": [1]}], None):
        with pytest.raises(Refused, match=f"{type(given).__name__} has no dataset; verify a trainer"):
            own.ticket().verify(given)
    with pytest.raises(ftcheck.FtcheckError, match="verify it without eval_dataloader"):
        own.ticket().verify(own.trainer(), loaded(own))


# --- evaluation ---------------------------------------------------------------------------------------


def test_evaluation_sets_by_name_are_compared_one_behind_the_other(own: Own) -> None:
    rows = own.rows("eval")
    parts = {"first": rows.select(range(5)), "second": rows.select(range(5, 12))}

    own.ticket().verify(own.trainer(evaluation=parts))

    swapped = {"second": parts["second"], "first": parts["first"]}
    assert "evaluation row 1 (" in own.refused(own.trainer(evaluation=swapped))


def test_evaluation_rows_of_a_policy_that_does_not_evaluate_are_compared_too(own: Own) -> None:
    other = Own(own.folder, ["jobs.small.training.eval_strategy=no"])
    other.checked()

    other.ticket().verify(other.trainer())
    said = other.refused(other.trainer(evaluation=other.rows("eval").select(range(1, 12))))

    own.checked()
    assert "evaluation row 1 (" in said
    assert "the trainer has 11 rows, 12 were checked" in said


def test_evaluation_rows_that_the_policy_does_not_name_are_said_to_be_unverified(
    own: Own, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Own(own.folder, ["jobs.small.training.eval_strategy=no", "jobs.small.data.eval=null"])
    other.checked()

    other.ticket().verify(other.trainer())

    own.checked()
    assert "the trainer's evaluation rows were not verified: data.eval is not set (--set)" in (
        capsys.readouterr().err
    )


def test_a_trainer_that_does_not_evaluate_has_nothing_to_compare(own: Own) -> None:
    own.ticket().verify(own.trainer(eval_strategy="no"))


# --- packing and order --------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[("bfd", 96), ("bfd_split", 48), ("wrapped", 60)])
def packed(
    model_folder: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Own:
    """The small job, whose rows have 36 to 51 tokens, packed: whole, in pieces, across their ends."""
    strategy, length = request.param
    made = Own(tmp_path_factory.mktemp("packed"))
    made.overrides = [
        "jobs.small.training.packing=true",
        f"jobs.small.training.max_length={length}",
        f"jobs.small.training.packing_strategy={strategy}",
        "jobs.small.training.eval_packing=false",
    ]
    made.packing = {
        "packing": True,
        "packing_strategy": strategy,
        "max_length": length,
        "eval_packing": False,
    }
    small.make_project(made.folder, model_folder)
    made.checked()
    return made


def test_packed_rows_are_verified_whatever_block_they_are_in(packed: Own) -> None:
    trainer = packed.trainer(**packed.packing)

    blocks = [len(ids) for ids in trainer.train_dataset["input_ids"]]
    assert sorted(blocks) != sorted([36, 41, 46, 51] * 15)
    packed.ticket().verify(trainer)


def test_a_row_that_changed_is_named_out_of_its_block(packed: Own) -> None:
    rows = packed.rows()
    answers = [one["messages"][1] for one in rows]
    answers[4] = {"role": "assistant", "content": '{"intent": "status", "order": 9}'}
    changed = rows.map(lambda row, n: {"messages": [row["messages"][0], answers[n]]}, with_indices=True)

    said = packed.refused(packed.trainer(changed, **packed.packing))

    assert "train.jsonl:5): token " in said
    checked, _, fed = said.partition("the trainer feeds")
    assert '"order": 4' in checked
    assert '"order": 9' in fed


def wrapping(trainer: Any, change: Any) -> Any:
    """The trainer with a change to what its collator makes."""
    collate = trainer.data_collator

    def collator(rows: list[dict[str, Any]]) -> Any:
        batch = collate(rows)
        change(batch)
        return batch

    trainer.data_collator = collator
    return trainer


def test_what_a_collator_does_to_a_block_is_named_by_row_where_one_begins_there(packed: Own) -> None:
    def change(batch: Any) -> None:
        batch["labels"][0, 1] = batch["input_ids"][0, 1]

    said = packed.refused(wrapping(packed.trainer(**packed.packing), change))

    assert (
        "token 2 ('<|start_header_id|>') is in the loss in the trainer and was masked in the checks" in said
    )
    assert "made by collator" in said


def test_a_collator_that_adds_a_trained_token_without_a_mask_is_named(own: Own) -> None:
    def change(batch: Any) -> None:
        added = torch.full((len(batch["input_ids"]), 1), 1)
        batch["input_ids"] = torch.cat([batch["input_ids"], added], 1)
        batch["labels"] = torch.cat([batch["labels"], added], 1)
        batch.pop("attention_mask")

    said = own.refused(wrapping(own.trainer(), change))

    # Rows 1 to 8 have 36, 41, 46 and 51 tokens: the batch is padded to 51, and one more stands behind.
    assert "training row 1 (" in said
    assert "token 37 differs: checked nothing more after" in said


def test_a_shuffled_data_set_names_the_row_of_the_file(own: Own) -> None:
    from transformers import set_seed

    def change(batch: Any) -> None:
        if len(batch["labels"]) > 1:
            batch["labels"][1, 1] = batch["input_ids"][1, 1]

    trainer = own.trainer(shuffle_dataset=True)
    set_seed(1)
    second = trainer.train_dataset[1]["input_ids"]
    number = own.trainer().train_dataset["input_ids"].index(second) + 1

    assert f"train.jsonl:{number}): token 2 " in own.refused(wrapping(trainer, change))


def test_a_trainer_that_does_not_pack_where_the_policy_does_is_named(packed: Own) -> None:
    strategy = packed.packing["packing_strategy"]
    trainer = packed.trainer(max_length=packed.packing["max_length"])

    said = packed.refused(trainer)

    # Cut rows are the same rows where packing cuts too; `bfd_split` and `wrapped` cut none.
    named = {
        "bfd": "training.packing is True in the policy (--set), False in the trainer",
        "bfd_split": "token 49",
        "wrapped": "training.packing is True",
    }
    assert named[strategy] in said


def test_rows_that_skip_the_packing_of_their_arguments_are_not_taken_for_packed(packed: Own) -> None:
    """TRL packs nothing where `skip_prepare_dataset` is set, whatever `packing` says."""
    rows = packed.trainer(max_length=None).train_dataset.select_columns(["input_ids", "labels"])
    skipping = {"dataset_kwargs": {"skip_prepare_dataset": True}, "assistant_only_loss": False}
    bare = packed.trainer(rows, eval_strategy="no", **packed.packing | skipping)

    said = packed.refused(bare)

    assert "training.packing is True in the policy (--set), False in the trainer" in said


def test_a_trainer_that_packs_where_the_policy_says_otherwise_is_named(own: Own) -> None:
    own.overrides = ["jobs.small.training.packing=false"]
    own.checked()

    said = own.refused(own.trainer(packing=True))

    own.overrides = []
    own.checked()
    assert "training.packing is False in the policy (--set)" in said


def test_trls_own_shuffle_changes_nothing_that_is_trained(own: Own) -> None:
    trainer = own.trainer(shuffle_dataset=True)

    assert trainer.train_dataset["input_ids"] != own.trainer().train_dataset["input_ids"]
    own.ticket().verify(trainer)


def test_a_split_is_the_same_rows_in_the_order_in_which_datasets_draws_them(
    model_folder: Path, tmp_path: Path
) -> None:
    own = Own(
        tmp_path,
        ["jobs.small.data.eval=null", "jobs.small.data.validation_split=0.2", "jobs.small.training.seed=3"],
    )
    small.make_project(tmp_path, model_folder)
    own.checked()
    rows = own.rows()
    parts, others = (rows.train_test_split(test_size=0.2, seed=seed) for seed in (3, 4))

    own.ticket().verify(own.trainer(parts["train"], parts["test"], seed=3))

    assert "refused (ids-changed): training row " in own.refused(
        own.trainer(others["train"], parts["test"], seed=3)
    )


def test_batches_of_one_length_are_the_same_rows(own: Own) -> None:
    own.ticket().verify(own.trainer(train_sampling_strategy="group_by_length"))


def test_a_sampler_that_draws_some_rows_twice_is_named(own: Own) -> None:
    trainer = own.trainer()
    weights = [0.0] * 30 + [1.0] * 30
    trainer._get_train_sampler = lambda rows=None: WeightedRandomSampler(weights, 60)

    said = own.refused(trainer)

    assert "refused (unverified): training rows: the sampler WeightedRandomSampler draws " in said


# --- other trainers -----------------------------------------------------------------------------------


def tokenised(own: Own, tokenizer: Any) -> Any:
    """The rows as somebody tokenises them who does not use TRL."""
    template = own.trainer().train_dataset

    def make(row: dict[str, Any], index: int) -> dict[str, Any]:
        ids = tokenizer.apply_chat_template(row["messages"], return_dict=True)["input_ids"]
        return {"input_ids": ids, "labels": template[index]["labels"], "attention_mask": [1] * len(ids)}

    return own.rows().map(make, with_indices=True)


def plain(own: Own, rows: Any, collator: Any, tokenizer: Any) -> Any:
    """transformers' Trainer."""
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    arguments = {
        key: value for key, value in ARGUMENTS.items() if key in TrainingArguments.__dataclass_fields__
    }
    arguments |= {"eval_strategy": "no"}
    return Trainer(
        AutoModelForCausalLM.from_pretrained(own.folder / "model"),
        TrainingArguments(str(own.folder / "plain"), **arguments),
        train_dataset=rows,
        data_collator=collator,
        processing_class=tokenizer,
    )


def test_transformers_own_trainer_is_verified(own: Own) -> None:
    from transformers import DataCollatorForSeq2Seq

    tokenizer = own.tokenizer()
    rows = tokenised(own, tokenizer)
    collator = DataCollatorForSeq2Seq(tokenizer)

    own.ticket().verify(plain(own, rows, collator, tokenizer))

    said = own.refused(plain(own, rows.select([1, 0, *range(2, 60)]), collator, tokenizer))
    assert "training row 1 (" in said
    assert "row 2 of the checked rows is in its place" in said


def test_padding_that_takes_the_stop_token_out_of_the_loss_is_named(
    model_folder: Path, tmp_path: Path
) -> None:
    from transformers import DataCollatorForLanguageModeling

    own = Own(tmp_path)
    small.make_project(tmp_path, model_folder)
    own.overrides = ["jobs.small.training.assistant_only_loss=false", "jobs.small.training.eval_strategy=no"]
    own.checked()
    tokenizer = own.tokenizer()
    rows = tokenised(own, tokenizer).remove_columns("labels")
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)

    own.ticket().verify(plain(own, rows, collator, tokenizer))

    tokenizer.pad_token = tokenizer.eos_token
    first = rows[0]["input_ids"].index(tokenizer.eos_token_id) + 1
    said = own.refused(plain(own, rows, collator, tokenizer))
    masked = f"token {first} ('<|eot_id|>') is masked in the trainer and was in the loss in the checks"
    assert f"train.jsonl:1): {masked}" in said


def test_the_data_loaders_of_a_loop_of_ones_own_are_verified(own: Own) -> None:
    from accelerate import Accelerator
    from transformers import DataCollatorForSeq2Seq

    trainer = own.trainer()
    tokenizer = own.tokenizer()
    collator = DataCollatorForSeq2Seq(tokenizer)
    accelerator = Accelerator(cpu=True)

    def loader(rows: Any) -> Any:
        rows = rows.select_columns(["input_ids", "labels"])
        return accelerator.prepare(DataLoader(rows, batch_size=8, shuffle=True, collate_fn=collator))

    train, evaluation = loader(trainer.train_dataset), loader(trainer.eval_dataset)
    own.ticket().verify(train, evaluation)

    with pytest.raises(
        Refused, match=r"evaluation row 1 .* missing|the trainer has 11 rows, 12 were checked"
    ):
        own.ticket().verify(train, loader(trainer.eval_dataset.select(range(11))))


def test_rows_that_were_prepared_elsewhere_are_compared_as_they_lie(own: Own) -> None:
    rows = own.trainer().train_dataset.select_columns(["input_ids", "labels"])
    kept: dict[str, Any] = {
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "eval_strategy": "no",
        "assistant_only_loss": False,
    }

    own.ticket().verify(own.trainer(rows, **kept))

    shifted = rows.map(lambda row: {"labels": [*row["labels"][1:], -100]})
    said = own.refused(own.trainer(shifted, **kept))
    assert "training row 1 (" in said
    assert "is in the loss in the trainer" in said


def test_labels_that_are_masked_after_the_trainer_was_made_are_those_that_count(own: Own) -> None:
    """As unsloth's train_on_responses_only does it: unsloth itself needs a GPU, and a TRL before 1.16."""
    from transformers import DataCollatorForSeq2Seq

    tokenizer = own.tokenizer()
    trainer = own.trainer(assistant_only_loss=False)
    answer = tokenizer.encode("<|start_header_id|>assistant<|end_header_id|>\n\n", add_special_tokens=False)

    def masked(row: dict[str, Any]) -> dict[str, Any]:
        ids = row["input_ids"]
        begins = (n + len(answer) for n in range(len(ids)) if ids[n : n + len(answer)] == answer)
        start = next(begins)
        return {"labels": [-100] * start + ids[start:]}

    assert "is in the loss in the trainer" in own.refused(trainer)

    trainer.train_dataset = trainer.train_dataset.map(masked)
    trainer.eval_dataset = trainer.eval_dataset.map(masked)
    trainer.data_collator = DataCollatorForSeq2Seq(tokenizer)
    own.ticket().verify(trainer)


def test_rows_that_are_tokenised_when_they_are_asked_for_go_through_the_collator(own: Own) -> None:
    rows = own.trainer().train_dataset
    lying = own.rows()

    def ask(asked: dict[str, Any]) -> dict[str, Any]:
        numbers = [texts.index(str(one)) for one in asked["messages"]]
        return {name: [rows[n][name] for n in numbers] for name in ("input_ids", "labels")}

    texts = [str(one) for one in lying["messages"]]
    kept = {"skip_prepare_dataset": True}
    arguments = {"eval_strategy": "no", "assistant_only_loss": False, "remove_unused_columns": False}

    own.ticket().verify(own.trainer(lying.with_transform(ask), dataset_kwargs=kept, **arguments))

    swapped = lying.select([1, 0, *range(2, 60)]).with_transform(ask)
    said = own.refused(own.trainer(swapped, dataset_kwargs=kept, **arguments))
    assert "row 2 of the checked rows is in its place" in said


def test_a_shuffled_column_of_prompts_and_completions_is_named(model_folder: Path, tmp_path: Path) -> None:
    own = Own(tmp_path)
    small.make_project(tmp_path, model_folder)
    rows = [
        {"prompt": row["messages"][0]["content"] + "\n", "completion": row["messages"][1]["content"]}
        for row in small.make_rows(60)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "train.jsonl").write_text(text, encoding="utf-8")
    own.overrides = ["jobs.small.training.assistant_only_loss=false", "jobs.small.training.eval_strategy=no"]
    own.checked()
    arguments = {"assistant_only_loss": False, "eval_strategy": "no"}

    own.ticket().verify(own.trainer(**arguments))

    told = own.rows()
    shuffled = told.remove_columns("completion").add_column("completion", [*told["completion"][1:], "{}"])
    said = own.refused(own.trainer(shuffled, **arguments))
    assert "train.jsonl:1): token " in said
    checked, _, fed = said.partition("the trainer feeds")
    assert '{"intent": "status", "order": 0}' in checked
    assert '{"intent": "complain", "order": 1}' in fed


def test_verifying_draws_no_random_number(own: Own) -> None:
    trainer = own.trainer()
    before = torch.get_rng_state()
    own.ticket().verify(trainer)

    assert torch.equal(torch.get_rng_state(), before)


FLOATS = (
    '{"messages":[{"role":"user","content":"p?"},{"role":"assistant","content":"","tool_calls":'
    '[{"type":"function","function":{"name":"f","arguments":{"p":0.3}}}]}]}\n'
    '{"messages":[{"role":"user","content":"p?"},{"role":"assistant","content":"no"}]}\n'
)
"""Issue 13, item 3: datasets reads 0.3 as 0.30000000000000004."""


def test_a_float_that_datasets_reads_otherwise_is_named(model_folder: Path, tmp_path: Path) -> None:
    own = Own(tmp_path)
    policy = small.make_project(tmp_path, model_folder)
    (tmp_path / "train.jsonl").write_text(FLOATS, encoding="utf-8")
    (tmp_path / "calls.jinja").write_text(CALLS, encoding="utf-8")
    text = policy.read_text(encoding="utf-8").replace("./model}", "./model, chat_template: calls.jinja}")
    policy.write_text(text, encoding="utf-8")
    own.overrides = [
        "jobs.small.training.assistant_only_loss=false",
        "jobs.small.training.eval_strategy=no",
        "jobs.small.data.eval=null",
    ]
    own.checked()
    tokenizer = own.tokenizer(CALLS)
    texts = [
        tokenizer.apply_chat_template(json.loads(FLOATS.splitlines()[0])["messages"], tokenize=False),
    ]
    texts.append(texts[0].replace("0.3", "0.30000000000000004"))
    here, there = (tokenizer.encode(text, add_special_tokens=False) for text in texts)
    token = next(n for n, (a, b) in enumerate(zip(here, there, strict=False), 1) if a != b)

    said = own.refused(own.trainer(tokenizer=tokenizer, assistant_only_loss=False, eval_strategy="no"))

    assert f"train.jsonl:1): token {token} differs" in said
    checked, _, fed = said.partition("the trainer feeds")
    assert '{"p": 0.3}' in checked
    assert "0.30000000000000004" in fed
