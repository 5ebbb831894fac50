"""Ctrl-C that lets the rollout under way finish, so that what was learned is saved."""

from __future__ import annotations

import signal
import sys
import threading
import time

from .. import dist

ONE_PRESS = 1.0  # seconds: torchrun passes on a Ctrl-C that the terminal has sent already


class GracefulInterrupt:
    """While active, the first SIGINT sets `asked`; one a second or more later raises
    KeyboardInterrupt.

    Outside the main thread signals cannot be caught; Ctrl-C then acts as it always does.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before = None
        self._first = 0.0

    def __enter__(self) -> GracefulInterrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def _on_signal(self, number: int, frame: object) -> None:
        if self.asked and time.monotonic() - self._first > ONE_PRESS:
            raise KeyboardInterrupt
        if self.asked:
            return
        self.asked, self._first = True, time.monotonic()
        if dist.is_main_process():
            said = "\nfinishing this step, then saving; press Ctrl-C again to stop at once"
            print(said, file=sys.stderr)

    def __exit__(self, *exception: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
