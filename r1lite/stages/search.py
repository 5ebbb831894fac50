"""Reading the searches that countdown answers write down: are sums, tries and verdicts right?"""

import operator
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..records import Group

_OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
_SUM = re.compile(r"(\d+) ([+\-*]) (\d+) = (\d+)")
_TRY = re.compile(r"(\d+) ([+\-*]) (\d+) = (\d+) vs (\d+) (yes|no|对|不)(?= )")
_BRANCH = re.compile(r"(\d+) ([+\-*]) (\d+) = (\d+) (?:left|余) (\d+) :")


@dataclass(frozen=True)
class SearchMetrics:
    """Rates between 0 and 1 over all answers; nan-free: a rate of nothing is 0.

    sums_right       written sums that are true
    tries_valid      tries that use the branch's result and the number that is left
    yes_when_hit     verdict yes among tries whose written result is the target
    yes_when_miss    verdict yes among the others
    tries_per_answer compared results per answer
    hit_per_try      tries whose written result is the target
    gives_up         answers that say so
    """

    sums_right: float
    tries_valid: float
    yes_when_hit: float
    yes_when_miss: float
    tries_per_answer: float
    hit_per_try: float
    gives_up: float
    group_size: int


def search_metrics(groups: Sequence[Group]) -> SearchMetrics:
    """Count over all answers of countdown groups."""
    count: Counter[str] = Counter()
    for group in groups:
        numbers = list(map(int, group.problem.gold["numbers"]))
        target = int(group.problem.gold["target"])
        for completion in group.completions:
            count["answers"] += 1
            count["gives_up"] += "give up" in completion.text or "放弃" in completion.text
            for a, op, b, c in _SUM.findall(completion.text):
                count["sums"] += 1
                count["right"] += _OPERATIONS[op](int(a), int(b)) == int(c)
            _count_tries(completion.text, numbers, target, count)

    def rate(part: str, whole: str) -> float:
        return count[part] / count[whole] if count[whole] else 0.0

    return SearchMetrics(
        sums_right=rate("right", "sums"),
        tries_valid=rate("valid", "tries"),
        yes_when_hit=rate("yes_hit", "hit"),
        yes_when_miss=rate("yes_miss", "miss"),
        tries_per_answer=rate("tries", "answers"),
        hit_per_try=rate("hit", "tries"),
        gives_up=rate("gives_up", "answers"),
        group_size=count["answers"],
    )


def _count_tries(text: str, numbers: list[int], target: int, count: Counter[str]) -> None:
    """Tries belong to the branch that was opened last before them."""
    branches = [(m.start(), *map(int, m.group(1, 3, 4))) for m in _BRANCH.finditer(text)]
    for match in _TRY.finditer(text):
        a, b, result = (int(match[i]) for i in (1, 3, 4))
        verdict = match[6] in ("yes", "对")
        before = [branch for branch in branches if branch[0] < match.start()]
        count["tries"] += 1
        if before:
            _, x, y, value = before[-1]
            left = Counter(numbers) - Counter([x, y])
            uses_given = not Counter([x, y]) - Counter(numbers)
            count["valid"] += uses_given and sorted([a, b]) == sorted([value, *left.elements()])
        kind = "hit" if result == target else "miss"
        count[kind] += 1
        count[f"yes_{kind}"] += verdict
