"""The optimizations of this folder, each with a switch.

None changes a result beyond rounding; tests hold that in float64. The switches are for those tests
and for `python -m r1lite bench --ladder`, which times a step without each.
"""

import contextlib
from collections.abc import Iterator

OPTIMIZATIONS = {
    "fused_decoding": "a decoding step is written out in tensors, without the model's modules",
    "packed_training": "so is training, which reads each prompt once per group and no padding",
    "workers": "each core samples answers to other prompts; threads would wait for one another",
}
_disabled: set[str] = set()


def is_enabled(name: str) -> bool:
    """Whether an optimization is on; all are, outside `disabled`."""
    if name not in OPTIMIZATIONS:
        raise KeyError(name)
    return name not in _disabled


@contextlib.contextmanager
def disabled(*names: str) -> Iterator[None]:
    """Switch optimizations off for a while.

    >>> with disabled("workers"):
    ...     is_enabled("workers"), is_enabled("fused_decoding")
    (False, True)
    """
    unknown = set(names) - set(OPTIMIZATIONS)
    if unknown:
        raise ValueError(f"{unknown} is no optimization: choose from {', '.join(OPTIMIZATIONS)}")
    before = set(_disabled)
    _disabled.update(names)
    try:
        yield
    finally:
        _disabled.clear()
        _disabled.update(before)
