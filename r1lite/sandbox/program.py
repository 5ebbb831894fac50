"""What is asked of the sandbox and what it answers: a program, its limits, how it went."""

from dataclasses import dataclass, field
from typing import Any

from ..records import UserError


@dataclass(frozen=True)
class Limits:
    """What one run of a program may use.

    seconds          wall-clock time of one test
    memory_bytes     address space of each process: the usual 256 MiB, and as much again for the
                     stack of a thread for deep recursion, which is often 128
    processes        processes and threads at once; memory in all is bounded by the product
    output_bytes     standard output, error and result together
    file_bytes       size of one file, if that is more than output_bytes
    compile_seconds, compile_bytes   the same for the compiler
    """

    seconds: float = 2.0
    memory_bytes: int = 512 * 2**20
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
    entry       "name", or "Class.method" of a class without arguments: call that (Python), with
                what LeetCode has imported before the answer
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

    lost  why nothing is known of this program (the jail had to be torn down, there is no compiler);
          None normally
    """

    compiled: Run | None = None
    runs: tuple[Run, ...] = field(default_factory=tuple)
    lost: str | None = None

    def __str__(self) -> str:
        """For readers: the first thing that went wrong, and what was said about it."""
        if self.lost:
            return f"lost: {self.lost}"
        for step, run in enumerate([self.compiled, *self.runs]):
            if not run.ok:
                how = f"exit {run.exit}" if run.status == "ended" else f"limit of {run.status}"
                return f"{f'test {step}' if step else 'compiler'}: {how}. {run.stderr.strip()}"
        return f"compiled, and {len(self.runs)} tests ended without an error"
