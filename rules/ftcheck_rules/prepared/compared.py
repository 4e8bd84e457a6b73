"""Two preparations of the same data, row by row: what came of the comparison, in the words of a report."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from ftcheck import Finding, Job, Measurement, Severity, Tokenizer
from ftcheck.inputs.prepared_folder import StoredRows
from ftcheck.paths import expand
from ftcheck.plurals import agreeing, counted
from ftcheck_rules.prepared.difference_words import AGAIN, SAID
from ftcheck_rules.prepared.row_differences import Comparison, Difference, Kind, Tokens
from ftcheck_rules.prepared.row_pairs import Pairs, Side

CLOSELY = 2_000
"""Of more rows that differ, so many are compared token by token."""
UNSEEN = {
    "axolotl": "axolotl names the folder by its settings, not by the content of the data",
    "llama-factory": "LLaMA-Factory ignores data and settings once tokenized_path exists",
}
"""Why a framework does not see that its folder is stale (axolotl 0.19, LLaMA-Factory 0.9.5)."""


def newer(job: Job, stored: StoredRows) -> bool:
    """Whether a file of data.train was changed after the folder was written."""
    stated = job.data.train
    files = [Path(one) for one in expand(stated)] if stated is not None else []
    return any(one.is_file() and one.stat().st_mtime > stored.written for one in files)


class Compared:
    """What came of the comparison, in the words of a report."""

    def __init__(
        self, job: Job, tokenizer: Tokenizer, here: Side, there: Side, found: Pairs, *, labels: bool
    ) -> None:
        """Compares the rows that differ token by token, `CLOSELY` of them; without `labels` the ids alone."""
        self._job, self._tokenizer = job, tokenizer
        self._here, self._there, self._found = here, there, found
        self._limit = job.training.max_length
        self._labels = labels
        masked = [pair for pair in found.same.tolist() if labels and not self._same_mask(*pair)]
        differing = sorted([*masked, *found.close.tolist()], key=lambda pair: pair[1])
        self._compared = len(found.same) + len(found.close)
        self._different = len(differing)
        self._closely = differing[:CLOSELY]
        self._kinds = self._classified(Comparison(tokenizer))
        lengths = here.prepared.length[here.rows[found.missing]]
        self._dropped = 0 if self._limit is None else int((lengths > self._limit).sum())

    def _same_mask(self, here: int, there: int) -> bool:
        import numpy as np

        theirs = self._there.mask(there)
        return bool(np.array_equal(self._here.mask(here)[: len(theirs)], theirs))

    def _classified(self, comparison: Comparison) -> dict[Kind, list[tuple[int, Difference]]]:
        """Differences by kind, each with its row there; what most of them share is the template's."""
        found: dict[Kind, list[tuple[int, Difference]]] = {}
        for here, there in self._closely:
            theirs = Tokens(self._there.ids(there), self._there.mask(there))
            ours = Tokens(self._here.ids(here), self._here.mask(here))
            if len(theirs.ids) == self._limit:
                ours = ours.part(0, len(theirs.ids))
            for one in comparison.of(ours, theirs, labels=self._labels):
                found.setdefault(one.kind, []).append((there, one))
        for kind in (Kind.TEXT, Kind.LEFT_OUT):
            shared = Counter(one.change for _, one in found.get(kind, ()))
            for change, times in shared.most_common(1):
                if times > 1 and 2 * times >= len(found[kind]):
                    found.setdefault(Kind.TEMPLATE, []).extend(
                        one for one in found[kind] if one[1].change == change
                    )
                    found[kind] = [one for one in found[kind] if one[1].change != change]
        return {kind: sorted(rows, key=lambda one: one[0]) for kind, rows in found.items() if rows}

    def measured(self) -> Iterator[Measurement]:
        """How many rows are equal, different, missing and extra."""
        yield Measurement("rows_compared", self._compared, unit="rows")
        yield Measurement("rows_equal", self._compared - self._different, unit="rows")
        yield Measurement("rows_different", self._different, unit="rows")
        yield Measurement("rows_missing", len(self._found.missing), unit="rows")
        yield Measurement("rows_extra", len(self._found.extra), unit="rows")

    def in_words(self) -> str:
        """`60 of 60 rows are as ftcheck prepares data.train`."""
        same = self._compared - self._different
        return f"{same:,} of {counted(self._compared, 'row')} as ftcheck prepares data.train"

    def findings(self, stored: StoredRows) -> Iterator[Finding]:
        """Other data first, then each kind of difference."""
        yield from self._other_data(stored)
        for kind in Kind:
            if kind in self._kinds:
                yield self._finding(kind, self._kinds[kind])
        if self._compared > 1 and not self._found.in_order:
            message = "the rows are in another order than those of data.train"
            yield Finding(message, Severity.INFO, at=self._job.at("data.prepared"))
        if self._found.unseen:
            rows = counted(self._found.unseen, "row")
            message = f"{rows} of the folder that differ from those of data.train were not looked at closely"
            yield Finding(message, Severity.INFO, at=self._job.at("data.prepared"))

    def _finding(self, kind: Kind, rows: Sequence[tuple[int, Difference]]) -> Finding:
        said, (row, first) = SAID[kind], rows[0]
        compared = self._compared
        if self._different > len(self._closely):
            compared = len(self._closely)
        words = said.one if len(rows) == 1 else said.many
        show = self._tokenizer.show
        return Finding(
            f"{len(rows):,} of {counted(compared, 'row')} {words} (first at token {first.place + 1:,})",
            said.severity,
            at=self._there.prepared.at(int(self._there.rows[row])),
            fix=said.fix,
            why=said.why,
            content=f"ftcheck «{show(first.here)}», folder «{show(first.there)}»",
        )

    def _other_data(self, stored: StoredRows) -> Iterator[Finding]:
        """Rows that only one side has."""
        missing, extra = len(self._found.missing), len(self._found.extra)
        dropped = self._dropped
        total = counted(len(self._here), "row")
        at = self._job.at("data.prepared")
        if missing - dropped and extra:
            first = self._there.prepared.at(int(self._there.rows[self._found.extra[0]]))
            of_folder = f"{counted(extra, 'row')} of the folder {agreeing(extra, 'is', 'are')}"
            of_data = f"{missing:,} of {total} of data.train {agreeing(missing, 'is', 'are')}"
            message = f"{of_folder} none of data.train, and {of_data} not in the folder{self._age(stored)}"
            unseen = UNSEEN.get(stored.framework or "")
            why = "The folder was prepared from other data, and is trained as it is."
            yield Finding(message, at=first, fix=AGAIN, why=f"{why} {unseen}." if unseen else why)
            return
        if dropped:
            are, them, limit = agreeing(dropped, "is", "are"), agreeing(dropped, "it", "them"), self._limit
            message = (
                f"{dropped:,} of {total} of data.train {are} longer than max_length {limit} and not in the"
                f" folder; TRL would cut {them}"
            )
            yield Finding(message, Severity.INFO, at=at)
        if self._found.held_out:
            held = self._found.held_out
            message = (
                f"{held:,} of {total} of data.train {agreeing(held, 'is', 'are')} in the evaluation split"
            )
            yield Finding(message, Severity.INFO, at=at)
        if missing - dropped:
            left = missing - dropped
            first = self._here.prepared.at(int(self._here.rows[self._found.missing[0]]))
            message = f"{left:,} of {total} of data.train {agreeing(left, 'is', 'are')} not in the folder"
            message += self._too_long()
            fix = f"{AGAIN}, if they were not meant to be left out (filters, held-out rows, deduplication)"
            yield Finding(message + self._age(stored), Severity.WARNING, at=first, fix=fix)
        elif extra:
            first = self._there.prepared.at(int(self._there.rows[self._found.extra[0]]))
            message = (
                f"{extra:,} of {counted(len(self._there), 'row')} of the folder"
                f" {agreeing(extra, 'is', 'are')} none of data.train"
            )
            fix = "name all files that were prepared in data.train"
            why = "Checks on data.train say nothing of these rows."
            yield Finding(message + self._age(stored), Severity.WARNING, at=first, fix=fix, why=why)

    def _too_long(self) -> str:
        """Whether the rows that are missing are all longer than those that are there."""
        here, there = self._here, self._there
        longest = int(there.prepared.length[there.rows].max(initial=0))
        shortest = int(here.prepared.length[here.rows[self._found.missing]].min())
        if shortest <= longest:
            return ""
        return f": each is longer than any row that is ({longest:,} tokens), so its length dropped it"

    def _age(self, stored: StoredRows) -> str:
        """`; data.train was changed after the folder was written`, where it was."""
        changed = newer(self._job, stored)
        return "; data.train was changed after the folder was written" if changed else ""
