"""Running many untrusted programs: a few jailed workers, each fed one program at a time."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import queue
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..records import UserError
from .jail import JAILS, jail_command, missing, no_jail_error, scratch_folder
from .seccomp import seccomp_filter

ROOM = 64 * 2**20  # bytes of files in all, per worker
GRACE = 5.0  # seconds beyond all limits of a program before its jail is torn down
START = 20.0  # seconds for a jail to come up
_USERS = itertools.count(1_000_000_000 + os.getpid() % 100_000 * 1000)


@dataclass(frozen=True)
class Limits:
    """What one run of a program may use.

    seconds          wall-clock time of one test
    memory_bytes     address space of each process
    processes        processes and threads at once; memory in all is bounded by the product
    output_bytes     standard output, error and result together
    file_bytes       size of one file
    compile_seconds, compile_bytes   the same for the compiler
    """

    seconds: float = 2.0
    memory_bytes: int = 256 * 2**20
    processes: int = 8
    output_bytes: int = 2**20
    file_bytes: int = 2**24
    compile_seconds: float = 15.0
    compile_bytes: int = 2**30


@dataclass(frozen=True)
class Program:
    """Source text and what to feed it.

    language    "python" or "cpp"
    tests       texts for standard input; with `entry`, lists of arguments
    entry       "name", or "Class.method" of a class without arguments: call that (Python)
    stop_early  leave out the tests after the first that crashed or ran out of time
    """

    language: str
    source: str
    tests: tuple[Any, ...] = ("",)
    entry: str = ""
    stop_early: bool = False

    def __post_init__(self) -> None:
        if self.language not in ("python", "cpp"):
            raise UserError(
                f"language {self.language!r}: the sandbox runs python and cpp. Choose one of them."
            )
        if self.entry and self.language != "python":
            raise UserError(
                f"entry {self.entry!r} of a {self.language} program: only Python functions are "
                "called by name. Append a main() to the source and feed it by standard input."
            )


@dataclass(frozen=True)
class Run:
    """How one test went.

    status   "ended" (see exit), "time", "output" (too much of it)
    exit     exit code, or minus the signal that ended it; None if it was killed at a limit
    seconds  of wall-clock time
    memory   largest resident size in bytes, None if it was killed
    result   JSON of what the function returned; empty without `entry`
    """

    status: str
    exit: int | None
    seconds: float
    memory: int | None
    stdout: str
    stderr: str
    result: str

    @property
    def ok(self) -> bool:
        return self.status == "ended" and self.exit == 0


@dataclass(frozen=True)
class Outcome:
    """compiled: the compiler's run (for Python, of its parser); runs: one per test.

    lost  why nothing is known of this program (the jail had to be torn down); None normally
    """

    compiled: Run | None = None
    runs: tuple[Run, ...] = field(default_factory=tuple)
    lost: str | None = None


class _Worker:
    """One jail and the process in it."""

    def __init__(self, jail: str):
        self.scratch = scratch_folder()
        user = next(_USERS) if os.geteuid() == 0 and jail != "unsafe" else 0
        code = b"" if jail == "unsafe" else seccomp_filter()
        self.process = subprocess.Popen(
            jail_command(jail, self.scratch.name, ROOM),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            start_new_session=True,
        )
        os.set_blocking(self.process.stdout.fileno(), False)
        setup = {"uid": user, "seccomp": base64.b64encode(code).decode()}
        try:
            self.ask(setup, START)
        except OSError:
            said = self.end()
            why = said.strip().splitlines()[-1] if said.strip() else "it did not start"
            raise OSError(why) from None

    def ask(self, message: dict[str, Any], seconds: float) -> dict[str, Any]:
        """One line there, one line back; raises OSError if none comes in time."""
        deadline = time.monotonic() + seconds
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):  # gone, or ended by us
            raise OSError("the jail has ended") from None
        line = bytearray()
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not ready.select(max(deadline - time.monotonic(), 0)):
                    raise OSError("the jail did not answer in time")
                part = self.process.stdout.read(2**20)
                if part == b"":
                    raise OSError("the jail has ended")
                line += part or b""
        return json.loads(line)

    def end(self) -> str:
        """Kill the jail's process 1, with which the kernel ends all others in it.

        The jail's own program could not: it is not allowed to signal the user whom the worker has
        become. Returns what the jail complained of.
        """
        pid = self.process.pid
        try:
            inside = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            inside = []
        for child in (*map(int, inside), pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self.process.wait()
        if self.process.stderr.closed:
            return ""  # ended before
        os.set_blocking(self.process.stderr.fileno(), False)
        said = (self.process.stderr.read() or b"").decode("utf-8", "replace")
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        self.scratch.cleanup()
        return said


class Sandbox:
    """A pool of jailed workers. Use it in a `with`, or close() it.

    jail       "auto" takes the first of bubblewrap and namespaces that works here, and raises
               UserError if neither does; "unsafe" has to be asked for by name
    n_workers  programs at once
    """

    def __init__(self, jail: str = "auto", n_workers: int = 2):
        if jail != "auto" and jail not in JAILS:
            raise UserError(f"sandbox {jail!r} is unknown: it must be auto, {', '.join(JAILS)}.")
        self.jail, first = _first_that_works(JAILS[:2] if jail == "auto" else (jail,))
        self.n_workers = n_workers
        self._free: queue.Queue[_Worker | None] = queue.Queue()
        self._free.put(first)
        for _ in range(n_workers - 1):
            self._free.put(None)  # started when it is needed

    def run(
        self, programs: Sequence[Program], limits: Limits | Sequence[Limits] = Limits()
    ) -> list[Outcome]:
        """Run programs, several at once; the outcomes come in their order.

        limits  for all of them, or one for each
        """
        if isinstance(limits, Limits):
            limits = [limits] * len(programs)
        with ThreadPoolExecutor(self.n_workers) as threads:
            return list(threads.map(self._run_one, programs, limits))

    def _run_one(self, program: Program, limits: Limits) -> Outcome:
        worker = self._free.get()
        try:
            worker = worker or _Worker(self.jail)
            longest = limits.compile_seconds + limits.seconds * len(program.tests) + GRACE
            answer = worker.ask(asdict(program) | asdict(limits), longest)
            runs = tuple(Run(**run) for run in answer["runs"])
            if not answer["clean"]:
                worker.end()
                worker = None
            return Outcome(Run(**answer["compiled"]), runs)
        except OSError as error:
            if worker:
                worker.end()
            worker = None
            return Outcome(lost=str(error))
        finally:
            self._free.put(worker)

    def pids(self) -> list[int]:
        """Process numbers of the jails that are up and not at work, as seen from outside."""
        return [worker.process.pid for worker in list(self._free.queue) if worker]

    def close(self) -> None:
        for _ in range(self._free.qsize()):
            if worker := self._free.get_nowait():
                worker.end()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _first_that_works(jails: Sequence[str]) -> tuple[str, _Worker]:
    reasons = {}
    for jail in jails:
        reasons[jail] = missing(jail)
        if not reasons[jail]:
            try:
                return jail, _Worker(jail)
            except OSError as error:
                reasons[jail] = str(error)
    raise no_jail_error(reasons)
