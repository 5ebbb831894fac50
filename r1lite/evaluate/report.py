"""pass@1 over k samples, strict and lenient, with an interval that respects clusters."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..policy.load import Policy
from ..policy.sample import sample_groups
from ..prompt import split_answer
from ..records import Group, Problem
from ..rewards import is_right, is_right_leniently
from ..world.corpus import reflection_words
from .language import language_consistency


@dataclass(frozen=True)
class Report:
    """One evaluation. Rates are between 0 and 1.

    pass_at_1                  mean over problems of the share of k answers that are right
    interval                   half-width of its 95 % interval, clustered
    pass_at_1_lenient          the same with tags ignored: the last expression counts
    cons_at_k                  share of problems whose commonest answer of k is right (the paper's
                               cons@64); answers outside the format have no vote
    format                     share of answers in the strict format
    mean_tokens                answer length; truncated: share cut off
    reflection_per_answer      reflection markers per answer ("wait", "check" and their Chinese)
    reflection_per_1k_tokens   the same per 1,000 answer tokens
    language_consistency       mean share of words in the question's language, of the thinking
                               where the format is kept, else of the whole answer
    """

    pass_at_1: float
    interval: float
    pass_at_1_lenient: float
    cons_at_k: float
    format: float
    mean_tokens: float
    truncated: float
    reflection_per_answer: float
    reflection_per_1k_tokens: float
    language_consistency: float
    n_problems: int
    k: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def evaluate(
    policy: Policy,
    problems: Sequence[Problem],
    *,
    k: int = 16,
    temperature: float = 0.6,
    top_p: float = 0.95,
    max_new_tokens: int = 256,
    template: str = "tiny",
    seed: int = 0,
) -> Report:
    """Sample k answers a problem and grade them; defaults as in the paper: T 0.6, top-p 0.95."""
    groups = sample_groups(
        policy,
        problems,
        n_answers=k,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        template=template,
        seed=seed,
        step=0,
    )
    return grade(groups)


def grade(groups: Sequence[Group]) -> Report:
    """The figures of Report for groups that were sampled already."""
    k = len(groups[0].rollouts)
    answers = [(g.problem, r) for g in groups for r in g.rollouts]
    texts = [r.text for _, r in answers]
    n, n_tokens = len(answers), sum(len(r.token_ids) for _, r in answers)
    per_problem = [sum(is_right(g.problem, r.text) for r in g.rollouts) / k for g in groups]
    markers = set(reflection_words())
    n_markers = sum(word in markers for text in texts for word in text.split())
    parts = [split_answer(text) for text in texts]
    consistencies = [
        language_consistency(part.think or text, problem.language)
        for part, text, (problem, _) in zip(parts, texts, answers, strict=True)
    ]
    spoken = [share for share in consistencies if share is not None]
    return Report(
        pass_at_1=sum(per_problem) / len(groups),
        interval=clustered_interval(per_problem, [g.problem.cluster for g in groups]),
        pass_at_1_lenient=sum(is_right_leniently(p, r.text) for p, r in answers) / n,
        cons_at_k=sum(map(_majority_is_right, groups)) / len(groups),
        format=sum(part.is_well_formed for part in parts) / n,
        mean_tokens=n_tokens / n,
        truncated=sum(r.truncated for _, r in answers) / n,
        reflection_per_answer=n_markers / n,
        reflection_per_1k_tokens=1000 * n_markers / n_tokens,
        language_consistency=sum(spoken) / len(spoken) if spoken else math.nan,
        n_problems=len(groups),
        k=k,
    )


def _majority_is_right(group: Group) -> bool:
    """Whether the commonest final answer is right; of equally common ones the first counts."""
    finals = [(split_answer(r.text).final, r.text) for r in group.rollouts]
    votes = Counter(final for final, _ in finals if final is not None)
    by_final = dict(finals)
    return bool(votes) and is_right(group.problem, by_final[votes.most_common(1)[0][0]])


def clustered_interval(values: Sequence[float], clusters: Sequence[str]) -> float:
    """Half-width of the 95 % interval of the mean when values of one cluster go together.

    The cluster-robust standard error (residuals summed within clusters, with the usual
    C / (C - 1)); problems on the same numbers are not independent draws. One cluster: nan.
    """
    mean = sum(values) / len(values)
    sums: dict[str, float] = defaultdict(float)
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] += value - mean
    if len(sums) < 2:
        return math.nan
    variance = sum(s * s for s in sums.values()) * len(sums) / (len(sums) - 1)
    return 1.96 * math.sqrt(variance) / len(values)
