"""The exact savings, each with a switch: what is computed once, later or not at all.

None changes a result beyond rounding; tests hold that in float64. The switches are for those
tests and for `python -m r1lite bench --ladder`, which times a step without each.
"""

import contextlib
from collections.abc import Iterator

SAVINGS = {
    "prompt_once_in_rollout": "a prompt is read once per group before its answers are sampled",
    "alike_once": "answers of a group that begin alike are computed once, until they part",
    "one_thread_each": "each core writes answers to other prompts; threads would wait for another",
    "drop_finished_rows": "answers that have ended leave the batch while the others go on",
    "written_out": "a decoding step is written out in tensors, without the model's modules",
    "packed_training": "so is training on answers, and none of its products sees padding",
    "onednn_products": "float32 matrices are multiplied by oneDNN, not MKL, where that is exact",
    "drop_equal_groups": "groups whose rewards are equal are not trained on: their gradient is 0",
    "sort_by_length": "micro-batches hold answers of like length, so that little is padding",
    "prompt_once_in_training": "a prompt is read once per group, forward and backward",
    "answer_scores_only": "scores of words are computed for answer tokens only",
}
_off: set[str] = set()


def saves(name: str) -> bool:
    """Whether a saving is on; all are, outside `without`."""
    assert name in SAVINGS, name
    return name not in _off


@contextlib.contextmanager
def without(*names: str) -> Iterator[None]:
    """Switch savings off for a while.

    >>> with without("alike_once"):
    ...     saves("alike_once"), saves("written_out")
    (False, True)
    """
    unknown = set(names) - set(SAVINGS)
    if unknown:
        raise ValueError(f"{unknown} is no saving: choose from {', '.join(SAVINGS)}")
    before = set(_off)
    _off.update(names)
    try:
        yield
    finally:
        _off.clear()
        _off.update(before)
