"""Ctrl-C or SIGTERM that lets the rollout under way finish, so that what was learned is saved."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time

from .. import dist

ONE_PRESS = 1.0  # seconds: torchrun passes on a Ctrl-C that the terminal has sent already


class GracefulInterrupt:
    """While active, the first SIGINT or SIGTERM sets `asked` to its number; one a second or more
    later ends the program at once, by KeyboardInterrupt or SystemExit(143).

    torchrun sends SIGTERM also where another process has died: what waits for that one then fails,
    or is killed 30 s later. Outside the main thread signals cannot be caught; they then act as they
    always do.
    """

    def __init__(self) -> None:
        self.asked = 0
        self._first, self._process = 0.0, os.getpid()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> GracefulInterrupt:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.signal(number, self._on_signal)
                before = signal.SIG_DFL if before is None else before  # not set by Python
                self._stack.callback(signal.signal, number, before)
        return self

    def _on_signal(self, number: int, frame: object) -> None:
        if os.getpid() != self._process:  # in a fork there is nothing to save
            os._exit(128 + number)
        if self.asked and time.monotonic() - self._first > ONE_PRESS:
            raise SystemExit(143) if number == signal.SIGTERM else KeyboardInterrupt
        if self.asked:
            return
        self.asked, self._first = number, time.monotonic()
        if dist.is_main_process():
            again = "" if number == signal.SIGTERM else "; press Ctrl-C again to stop at once"
            print(f"\nfinishing this step, then saving{again}", file=sys.stderr)

    def __exit__(self, *exception: object) -> None:
        self._stack.close()
