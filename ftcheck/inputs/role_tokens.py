"""The input `role_tokens`: tokens of messages by themselves, by role and by turn."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftcheck.packing.lengths import Histogram

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROLES = ("system", "developer", "user", "assistant", "tool", "ipython", "function")
OTHER = "other"
"""All other roles together: a role that nobody knows may hold anything."""
TURNS = 8
"""So many messages of a row are told apart; those behind them are `later`."""
LATER = "later"
_PLACES = {name: n for n, name in enumerate((*ROLES, OTHER, *map(str, range(1, TURNS + 1)), LATER))}


@dataclass(frozen=True, slots=True)
class Words:
    """The messages of one role (`user`), or of one turn (`1`, `later`), by the tokens of their own words."""

    name: str
    counts: Histogram


@dataclass(frozen=True, slots=True)
class RoleTokens:
    """Tokens of messages' own words: their content, encoded on its own, without special tokens.

    `roles` and `turns` (from 1, the system message among them) each count every message of `rows` rows of
    `tokens` tokens in all, before truncation; `total` rows stood to choose from. `rest` counts rows by their
    tokens beside the words: the template's own, and in `beside` rows tools, tool calls or thoughts. `short`
    rows have fewer tokens than words, where a template leaves some out: their rest counts as 0.
    """

    rows: int
    tokens: int
    roles: tuple[Words, ...]
    turns: tuple[Words, ...]
    rest: Histogram
    beside: int
    short: int
    total: int

    @classmethod
    def of(
        cls,
        roles: Sequence[str],
        words: "NDArray[Any]",
        messages: "NDArray[Any]",
        lengths: "NDArray[Any]",
        *,
        beside: int = 0,
    ) -> "RoleTokens":
        """Some rows. `roles` and `words` (tokens) have one entry a message, row by row; `messages` (how many
        they are) and `lengths` (tokens of the whole) one a row, and no row is without messages.
        """
        import numpy as np

        firsts = np.cumsum(messages) - messages
        turns = np.arange(len(words)) - np.repeat(firsts, messages) + 1
        named = np.array([role if role in ROLES else OTHER for role in roles], dtype=object)
        rest = lengths - (np.add.reduceat(words, firsts) if len(firsts) else lengths)
        by_role = {name: named == name for name in set(named.tolist())}
        by_turn = {str(n): turns == n for n in range(1, min(TURNS, turns.max(initial=0)) + 1)}
        by_turn |= {LATER: turns > TURNS} if turns.max(initial=0) > TURNS else {}
        return cls(
            rows=len(lengths),
            tokens=int(lengths.sum()),
            roles=_in_order(Words(name, Histogram.of(words[which])) for name, which in by_role.items()),
            turns=_in_order(Words(name, Histogram.of(words[which])) for name, which in by_turn.items()),
            rest=Histogram.of(rest.clip(min=0)),
            beside=beside,
            short=int((rest < 0).sum()),
            total=len(lengths),
        )

    def merge(self, other: "RoleTokens") -> "RoleTokens":
        """What is said in both sets of rows: commutative, associative, nothing is lost."""
        return RoleTokens(
            rows=self.rows + other.rows,
            tokens=self.tokens + other.tokens,
            roles=_merged(self.roles, other.roles),
            turns=_merged(self.turns, other.turns),
            rest=self.rest.merge(other.rest),
            beside=self.beside + other.beside,
            short=self.short + other.short,
            total=self.total + other.total,
        )

    @property
    def messages(self) -> int:
        """How many messages there are."""
        return sum(one.counts.sequences for one in self.roles)

    @property
    def template(self) -> int:
        """Tokens beside the words in all rows; below 0 where a template leaves more out than it adds."""
        return self.tokens - sum(one.counts.tokens for one in self.roles)

    def share(self, tokens: int) -> float:
        """Share of all tokens that so many are."""
        return tokens / self.tokens if self.tokens else 0.0


def nothing() -> RoleTokens:
    """No row at all, to merge with."""
    import numpy as np

    none = np.zeros(0, dtype=np.int64)
    return RoleTokens.of((), none, none, none)


def _merged(ours: Sequence[Words], theirs: Sequence[Words]) -> tuple[Words, ...]:
    found = {one.name: one.counts for one in ours}
    for one in theirs:
        found[one.name] = found[one.name].merge(one.counts) if one.name in found else one.counts
    return _in_order(Words(name, counts) for name, counts in found.items())


def _in_order(parts: Iterable[Words]) -> tuple[Words, ...]:
    """Roles as conversations have them, turns by number."""
    return tuple(sorted(parts, key=lambda one: _PLACES[one.name]))
