"""pass@1 over k samples, strict and lenient, with an interval that respects clusters."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .. import fast
from ..config import RunConfig
from ..policy.load import Policy
from ..policy.sample import sample_groups
from ..prompt import Format, format_of, parse
from ..records import Group, Problem, known
from ..rewards import accuracy_reward, is_right_answer, is_right_leniently, score
from ..rewards.language import language_consistency
from ..world import as_problems, checker_of
from .reflection import is_readable, reflection_markers, second_attempts


@dataclass(frozen=True)
class Report:
    """One evaluation. Rates are between 0 and 1.

    pass_at_1                  mean over problems of the share of k answers that are right
    interval                   half-width of its 95 % interval, clustered
    pass_at_1_lenient          the same with tags ignored: the last expression counts
    cons_at_k                  share of problems whose commonest answer of k is right (the paper's
                               cons@64); answers outside the format have no vote
    format                     share of answers in the strict format
    mean_tokens                answer length; mean_tokens_right and mean_tokens_wrong: of the right
                               and of the other answers, None if there is none
    truncated                  share of answers that were cut off
    reflection_per_answer      reflection markers per answer ("wait", "check" and their Chinese)
    reflection_per_1k_tokens   the same per 1,000 answer tokens
    second_attempts            attempts after the first, per answer: reflection without its words
    readable                   share of answers in the format, in one language, without a sentence
                               said twice
    language_consistency       mean share of words in the question's language, of the thinking
                               where the format is kept, else of the whole answer
    unchecked                  share of answers that could not be checked, which count as wrong
    rewards                    name -> mean, without its weight, of each reward that was handed in,
                               over the answers where it applies and could be checked
    """

    pass_at_1: float
    interval: float
    pass_at_1_lenient: float
    cons_at_k: float
    format: float
    mean_tokens: float
    mean_tokens_right: float | None
    mean_tokens_wrong: float | None
    truncated: float
    reflection_per_answer: float
    reflection_per_1k_tokens: float
    second_attempts: float
    readable: float
    language_consistency: float
    n_problems: int
    k: int
    unchecked: float = 0.0
    rewards: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def evaluate(
    policy: Policy,
    problems: Iterable[Problem | Mapping[str, Any]],
    cfg: RunConfig | None = None,
    *,
    rewards: Any = None,
    k: int = 16,
    temperature: float = 0.6,
    top_p: float = 0.95,
    max_new_tokens: int | None = None,
    template: str | Format | None = None,
    seed: int = 0,
) -> Report:
    """Sample k answers per problem and grade them; defaults as in the paper: T 0.6, top-p 0.95.

    problems        Problems, or rows in memory: see world.as_problems
    cfg             settings of a run: its template and its length limit (that of the last update)
    rewards         what train takes: their means are in the Report. pass@1 goes by the checker of
                    a problem's family all the same
    max_new_tokens  length limit; without one and without cfg 256
    template        name of a format; without one and without cfg "tiny"
    """
    if max_new_tokens is None:
        max_new_tokens = cfg.at(cfg.steps).max_new_tokens if cfg else 256
    template = template or (format_of(cfg) if cfg else "tiny")
    problems = as_problems(problems)
    with fast.sampling(policy, len(problems) * k, cfg is None or cfg.fast) as sampler:
        groups = sample_groups(
            sampler, problems, group_size=k, temperature=temperature, top_p=top_p,
            max_new_tokens=max_new_tokens, template=template, seed=seed,
        )  # fmt: skip
    return grade(groups, rewards=rewards, fmt=template)


def grade(groups: Sequence[Group], *, rewards: Any = None, fmt: str | Format = "r1-zero") -> Report:
    """The Report on groups that were sampled already, read in the format fmt; rewards as above."""
    groups, k = parse(groups, fmt), len(groups[0].completions)
    answers = [(g.problem, completion) for g in groups for completion in g.completions]
    texts, parsed = [r.text for _, r in answers], [r.answer for _, r in answers]
    n, lengths = len(answers), [len(r.token_ids) for _, r in answers]
    values = []  # group by group: a limit of time that a checker has is for a rollout, not for all
    for g in groups:
        said, read = [r.text for r in g.completions], [r.answer for r in g.completions]
        values += accuracy_reward(said, said, problem=[g.problem] * len(said), parsed=read)
    right = [value == 1.0 for value in values]
    per_problem = [sum(right[i : i + k]) / k for i in range(0, n, k)]
    n_markers = sum(map(reflection_markers, texts))
    consistencies = [
        language_consistency(completion.answer.think or completion.text, problem.language)
        for problem, completion in answers
    ]
    return Report(
        pass_at_1=sum(per_problem) / len(groups),
        interval=clustered_interval(per_problem, [g.problem.cluster for g in groups]),
        pass_at_1_lenient=sum(is_right_leniently(p, r.text, fmt) for p, r in answers) / n,
        cons_at_k=sum(map(_majority_is_right, groups)) / len(groups),
        format=sum(answer.is_well_formed for answer in parsed) / n,
        mean_tokens=sum(lengths) / n,
        mean_tokens_right=_mean([length for length, is_right in zip(lengths, right) if is_right]),
        mean_tokens_wrong=_mean(
            [length for length, is_right in zip(lengths, right) if not is_right]
        ),
        truncated=sum(r.truncated for _, r in answers) / n,
        reflection_per_answer=n_markers / n,
        reflection_per_1k_tokens=1000 * n_markers / sum(lengths),
        second_attempts=sum(map(second_attempts, texts)) / n,
        readable=sum(is_readable(r.answer, p.language) for p, r in answers) / n,
        language_consistency=_mean(known(consistencies), math.nan),
        n_problems=len(groups),
        k=k,
        unchecked=(n - len(known(values))) / n,
        rewards=_reward_means(groups, rewards, fmt),
    )


def _reward_means(groups: Sequence[Group], rewards: Any, fmt: str | Format) -> dict[str, float]:
    if rewards is None:
        return {}
    scored = score(groups, rewards, fmt)
    parts = {name: known(v for g in scored for v in g.parts[name]) for name in scored[0].parts}
    return {name: sum(values) / len(values) for name, values in parts.items() if values}


def _mean(values: Sequence[float], of_nothing: float | None = None) -> float | None:
    return sum(values) / len(values) if values else of_nothing


def pass_at_k(n: int, n_right: int, k: int) -> float:
    """Chance that at least one of k answers drawn without replacement from n is right.

    The unbiased estimate of pass@k (arXiv 2107.03374, eq. 1), as a product, which keeps it exact
    where binomials overflow. 1 - (1 - n_right / n)^k would be too low.

    >>> pass_at_k(4, 1, 1), pass_at_k(4, 1, 2), pass_at_k(4, 3, 2)
    (0.25, 0.5, 1.0)
    """
    if not 1 <= k <= n or not 0 <= n_right <= n:
        raise ValueError(
            f"pass@{k} of {n_right} right among {n}: k must be from 1 to the number of answers"
        )
    if n - n_right < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - n_right + 1, n + 1))


def pass_curve(
    groups: Sequence[Group], ks: Sequence[int], fmt: str | Format = "r1-zero"
) -> dict[int, float]:
    """k -> mean over problems of pass_at_k, strict, from groups of at least max(ks) answers."""
    counts = [
        (len(g.completions), sum(is_right_answer(g.problem, r.answer) for r in g.completions))
        for g in parse(groups, fmt)
    ]
    return {k: sum(pass_at_k(n, c, k) for n, c in counts) / len(counts) for k in ks}


def _majority_is_right(group: Group) -> bool:
    """Whether the commonest final answer is right; of equally common ones the first counts.

    What one answer is, its family's checker says: in mathematics 12, \\boxed{12} and 12.0 are one.
    """
    vote = checker_of(group.problem.family).vote
    answers = [r.answer for r in group.completions if r.answer.final is not None]
    votes = [vote(answer.final) for answer in answers]
    if not votes:
        return False
    return is_right_answer(group.problem, answers[votes.index(Counter(votes).most_common(1)[0][0])])


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
