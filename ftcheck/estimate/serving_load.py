"""What serving takes: tokens of a request, replicas for the asked rate, cost of a thousand requests."""

import math
from dataclasses import dataclass

from ftcheck.inputs.evaluation import GoldSet
from ftcheck.packing.lengths import nearest_rank
from ftcheck.settings import Job

THOUSAND = 1000


@dataclass(frozen=True, slots=True)
class Load:
    """The load of a job's requests, by its gold questions and answers.

    `prompt` and `answer` are mean tokens of a request, `prompt_p95` and `answer_p95` the nearest-rank
    percentile; the answer counts its stop token. `per_replica` are requests a second that one replica
    answers, `replicas` how many the asked rate needs, `cost_per_1000` what a thousand requests cost; None
    where the policy states too little, and `unknown` says what is missing.
    """

    requests: int
    prompt: float
    answer: float
    prompt_p95: int
    answer_p95: int
    per_replica: float | None = None
    replicas: int | None = None
    cost_per_1000: float | None = None
    unknown: tuple[str, ...] = ()

    @property
    def tokens(self) -> float:
        """Tokens of a request, prompt and answer."""
        return self.prompt + self.answer


def load(job: Job, gold: GoldSet | None) -> Load | None:
    """The load of a job; None without gold questions.

    A replica makes serving.tokens_per_second output tokens a second, so it answers that many by the tokens
    of an answer; targets.requests_per_second by that, rounded up, are the replicas. A replica is taken to
    cost hardware.price_per_hour: a thousand requests cost the hours that one replica needs for them. Mean
    load, with nothing spare for bursts, which `assumes` of a plan must say.
    """
    if gold is None or not gold.items:
        return None
    import numpy as np

    prompts = np.array([len(one.prompt_ids) for one in gold.items])
    answers = np.array([one.answer_tokens for one in gold.items])
    answer = float(answers.mean())
    pace, rate = job.serving.tokens_per_second, job.targets.requests_per_second
    price = job.hardware.price_per_hour
    each = pace / answer if pace is not None and answer else None
    return Load(
        requests=len(gold.items),
        prompt=float(prompts.mean()),
        answer=answer,
        prompt_p95=nearest_rank(prompts, 95),
        answer_p95=nearest_rank(answers, 95),
        per_replica=each,
        replicas=math.ceil(rate / each) if each is not None and rate is not None else None,
        cost_per_1000=THOUSAND / each / 3600 * price if each is not None and price is not None else None,
        unknown=_unknown(job),
    )


def _unknown(job: Job) -> tuple[str, ...]:
    """The keys that are not stated, and that a number would need."""
    stated = (
        ("serving.tokens_per_second", job.serving.tokens_per_second),
        ("targets.requests_per_second", job.targets.requests_per_second),
        ("hardware.price_per_hour", job.hardware.price_per_hour),
    )
    return tuple(key for key, value in stated if value is None)
