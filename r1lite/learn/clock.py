"""Where the seconds of a step go."""

import time
from collections import Counter

import torch


class Clock:
    """Laps: each puts the time since the last one under a name, so that they add up to the whole.

    A GPU works behind the program's back; a lap waits for it, or its time would go elsewhere.
    """

    def __init__(self) -> None:
        self._last, self._seconds = time.perf_counter(), Counter()

    def lap(self, name: str) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        self._seconds[name] += now - self._last
        self._last = now

    def skip(self) -> None:
        """Forget the time since the last lap: an evaluation is no part of a step."""
        self._last = time.perf_counter()

    def read(self) -> dict[str, float]:
        """Seconds by name since the last reading, and their sum as "step"; starts again."""
        seconds, self._seconds = dict(self._seconds), Counter()
        return {k: round(v, 6) for k, v in (seconds | {"step": sum(seconds.values())}).items()}
