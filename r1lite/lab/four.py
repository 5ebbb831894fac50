"""Four invented answers to one problem: notebooks work them by hand before any model runs."""

from ..records import Problem

PROBLEM = Problem(
    problem_id="by-hand",
    family="countdown",
    cluster="2-4-8",
    language="en",
    question="make 24 from 2 8 4 .",
    gold={"numbers": [2, 8, 4], "target": 24},
)

# A: right and short. B: right after a search. C: the format around a guess that is wrong.
# D: finds a solution after a search, but never opens the answer block.
FOUR = {
    "A": "<think> try 8 - 2 = 6 left 4 : 6 * 4 = 24 vs 24 yes . so ( 8 - 2 ) * 4 </think> "
    "<answer> ( 8 - 2 ) * 4 </answer>",
    "B": "<think> try 8 * 4 = 32 left 2 : 32 - 2 = 30 vs 24 no , 32 + 2 = 34 vs 24 no . wait , "
    "try 8 + 4 = 12 left 2 : 12 * 2 = 24 vs 24 yes . check 8 + 4 = 12 , 12 * 2 = 24 yes . "
    "so ( 8 + 4 ) * 2 </think> <answer> ( 8 + 4 ) * 2 </answer>",
    "C": "<think> maybe ( 8 * 2 ) + 4 </think> <answer> ( 8 * 2 ) + 4 </answer>",
    "D": "<think> try 2 + 4 = 6 left 8 : 6 + 8 = 14 vs 24 no , 6 * 8 = 48 vs 24 no . wait , "
    "try 8 * 2 = 16 left 4 : 16 + 4 = 20 vs 24 no . try 8 - 2 = 6 left 4 : 6 * 4 = 24 vs 24 "
    "yes . so ( 8 - 2 ) * 4 </think> ( 8 - 2 ) * 4",
}


def n_tokens(answer: str) -> int:
    """Tokens of an answer in the tiny world: one a word, and the stop token.

    >>> n_tokens(FOUR["A"])
    38
    """
    return len(answer.split()) + 1
