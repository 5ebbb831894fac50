"""Running many untrusted programs: a few jailed workers, each fed one program at a time."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from itertools import count, repeat
from pathlib import Path
from typing import Any, BinaryIO

from ..records import UserError
from .jail import JAILS, jail_command, missing, no_compiler
from .program import Limits, Outcome, Program, Run
from .seccomp import seccomp_filter

ROOM = 64 * 2**20  # bytes of files in all, per worker
GRACE = 5.0  # seconds beyond all limits of a program before its jail is torn down
START = 20.0  # seconds for a jail to come up
USUAL = Limits()
_USERS = count(1_000_000_000)


class _Worker:
    """One jail and the process in it. What programs write is read here: never inside.

    clean  nothing of a program is in it: not true while one runs, nor after one got stuck
    """

    def __init__(self, jail: str):
        self.clean = True
        self.scratch = tempfile.mkdtemp(prefix="r1lite-jail-") if jail == "unsafe" else ""
        apart = os.getpid() % 100_000 * 1000  # processes are counted by user: also a forked child's
        user = next(_USERS) + apart if os.geteuid() == 0 and jail != "unsafe" else 0
        code = b"" if jail == "unsafe" else seccomp_filter()
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                jail_command(jail, self.scratch, ROOM),
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                start_new_session=True,
            )
        try:
            with _file({"uid": user, "seccomp": list(code)}) as setup:
                self._ask("set-up", [setup], START)
        except OSError:
            said = self.end()
            why = said.strip().splitlines()[-1] if said.strip() else "it did not start"
            raise OSError(why) from None

    def _ask(self, message: str, files: Sequence[BinaryIO], seconds: float) -> dict[str, Any]:
        """Send a word and open files; raises OSError if no answer comes in time."""
        self.control.settimeout(max(seconds, 0.001))
        try:
            socket.send_fds(self.control, [message.encode()], [file.fileno() for file in files])
            said = self.control.recv(4096)
        except TimeoutError:
            raise OSError("the jail did not answer in time") from None
        if not said:
            raise OSError("the jail has ended")
        return json.loads(said)

    def _do(self, what: str, limits: Limits, until: float, stdin: str = "", **job: Any) -> Run:
        """One child in the jail: it alone reads the job, which is gone with it."""
        with contextlib.ExitStack() as held:
            texts = (asdict(limits) | {"do": what} | job, stdin, "", "", "")
            files = [held.enter_context(_file(text)) for text in texts]
            seconds = min(limits.seconds + GRACE, until - time.monotonic())
            found = self._ask(str(limits.seconds), files, seconds)
            most = limits.output_bytes
            wrote = [os.pread(file.fileno(), most + 1, 0) for file in files[2:]]
        if sum(map(len, wrote)) > most:
            found |= {"status": "output", "exit": None}
        stdout, stderr, result = (text[:most].decode("utf-8", "replace") for text in wrote)
        return Run(**found, stdout=stdout, stderr=stderr, result=result)

    def run(self, program: Program, limits: Limits, until: float) -> Outcome:
        """Every test of one program, one at a time; raises OSError where the jail fails.

        until  time.monotonic() at which no answer counts any more
        """
        self.clean, source, runs = False, {"source": program.source}, []
        if program.language == "python":
            what, given = "run_python", source | {"entry": program.entry}
            compiled = self._do("parse", limits, until, **source)
        else:
            what, given = "run_cpp", {}
            most = {"processes": max(limits.processes, 16), "file_bytes": ROOM}
            most |= {"seconds": limits.compile_seconds, "memory_bytes": limits.compile_bytes}
            compiled = self._do("compile_cpp", replace(limits, **most), until, **source)
        for test in program.tests if compiled.ok else ():
            fed = {"test": test} if program.entry else {"stdin": test}
            runs.append(self._do(what, limits, until, **given, **fed))
            if program.stop_early and not runs[-1].ok:
                break
        self.clean = self._do("wipe", limits, until).ok
        return Outcome(compiled, tuple(runs))

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
        self.control.close()
        if self.scratch:
            shutil.rmtree(self.scratch, ignore_errors=True)
        if self.process.stderr.closed:
            return ""  # ended before
        os.set_blocking(self.process.stderr.fileno(), False)
        with self.process.stderr:
            return (self.process.stderr.read() or b"").decode("utf-8", "replace")


def _file(content: str | dict[str, Any]) -> BinaryIO:
    """An open file in memory, out of every program's reach but the one that it is given to."""
    text = content if isinstance(content, str) else json.dumps(content)
    file = open(os.memfd_create("job"), "w+b", buffering=0)  # noqa: SIM115
    file.write(text.encode("utf-8", "replace"))
    file.seek(0)
    return file


class Sandbox(contextlib.AbstractContextManager):
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
        self._fill(first)

    def _fill(self, first: _Worker | None = None) -> None:
        self._owner = os.getpid()
        self._free: queue.Queue[_Worker | None] = queue.Queue()
        for worker in (first, *[None] * (self.n_workers - 1)):  # None: started when it is needed
            self._free.put(worker)

    def _workers(self) -> queue.Queue[_Worker | None]:
        """The free ones. In a forked child new ones: its parent's would answer both of them."""
        if self._owner != os.getpid():
            self._fill()
        return self._free

    def run(
        self,
        programs: Sequence[Program],
        limits: Limits | Sequence[Limits] = USUAL,
        seconds: float = 1e8,
    ) -> list[Outcome]:
        """Run programs, several at once; the outcomes come in their order.

        limits   for all of them, or one for each
        seconds  of wall-clock time for all together: what is unfinished by then is lost
        """
        until = time.monotonic() + seconds
        limits = repeat(limits) if isinstance(limits, Limits) else limits
        with ThreadPoolExecutor(self.n_workers) as threads:
            return list(threads.map(self._run_one, programs, limits, repeat(until)))

    def _run_one(self, program: Program, limits: Limits, until: float) -> Outcome:
        if program.language == "cpp" and (why := no_compiler()):
            return Outcome(lost=why)
        free, late = self._workers(), Outcome(lost="no time was left for it")
        try:
            worker = free.get(timeout=max(until - time.monotonic(), 0))
        except queue.Empty:
            return late
        try:
            if time.monotonic() >= until:
                return late
            worker = worker or _Worker(self.jail)
            return worker.run(program, limits, until)
        except OSError as error:
            return Outcome(lost=str(error))
        finally:
            if worker and not worker.clean:
                worker.end()
                worker = None
            free.put(worker)

    def pids(self) -> list[int]:
        """Process numbers of the jails that are up and not at work, as seen from outside."""
        return [worker.process.pid for worker in list(self._workers().queue) if worker]

    def close(self) -> None:
        free = self._workers()
        for _ in range(free.qsize()):
            if worker := free.get_nowait():
                worker.end()

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
    said = "; ".join(f"{jail}: {why}" for jail, why in reasons.items())
    raise UserError(
        f"no jail works here ({said}): programs that a model wrote may do anything, so they are "
        "not run. Install bubblewrap (apt install bubblewrap), use a machine that allows user "
        'namespaces, or opt into jail="unsafe", which runs them as you.'
    )
