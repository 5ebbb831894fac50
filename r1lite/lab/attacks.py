"""Is the sandbox tight? Hostile programs are run in it, and what they were after is looked at.

Each file of data/attacks/programs says in its first two lines what it tries and which wall is to
stop it. All of them pretend to solve one problem, for which none may be paid.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..records import Problem, UserError
from ..rewards.code import grade_run
from ..runlog import markdown_table
from ..sandbox import Limits, Outcome, Program, Sandbox, no_compiler

PROGRAMS = Path(__file__).resolve().parents[2] / "data/attacks/programs"
LANGUAGES = {".py": "python", ".cpp": "cpp"}
LIMITS = Limits(seconds=1.0, compile_seconds=5.0)
SLACK = 5.0  # seconds that an attack may take beyond all its limits
ENV = "R1LITE_ATTACK_SECRET"
MARK = "r1lite-attack"  # begins the name of whatever an attack leaves outside
DOUBLE = Problem(
    "attack", "code", "attack", "en", "Read a number and print its double.",
    {"tests": [{"input": "3", "output": "6"}, {"input": "50", "output": "100"}]},
)  # fmt: skip
HONEST = Program("python", "print(int(input()) * 2)", ("3", "50"))


@dataclass(frozen=True)
class Attack:
    """A hostile program; tries: what it is after; wall: what is to stop it."""

    name: str
    language: str
    tries: str
    wall: str
    source: str


@dataclass(frozen=True)
class Report:
    """What came of an attack: stopped_by is observed; faults are empty if it was contained.

    ran  False if it could not be tried here: that is no fault, and nothing was contained
    """

    name: str
    tries: str
    stopped_by: str
    faults: tuple[str, ...]
    seconds: float
    ran: bool = True


def attacks(only: Collection[str] = (), folder: Path = PROGRAMS) -> list[Attack]:
    """The suite, or the attacks named."""
    found = []
    for path in sorted(p for p in folder.iterdir() if p.suffix in LANGUAGES):
        source = path.read_text(encoding="utf-8")
        said = [line.partition(":") for line in source.splitlines()[:2]]
        keys = [before.strip("/# ") for before, _, _ in said]
        if keys != ["tries", "wall"]:
            raise UserError(f"{path}: an attack begins with a line 'tries:' and a line 'wall:'.")
        tries, wall = (after.strip() for _, _, after in said)
        found.append(Attack(path.stem, LANGUAGES[path.suffix], tries, wall, source))
    if unknown := set(only) - {attack.name for attack in found}:
        raise UserError(f"attack {min(unknown)!r} is unknown: the names are the files of {folder}.")
    return [attack for attack in found if not only or attack.name in only]


class Target:
    """What attacks are after, outside the jail: a file, a folder, a variable, a process, sockets.

    Nothing but the jail keeps them away: any user may read the file and write to the folder.
    """

    def __enter__(self) -> Target:
        self.token = f"secret-{secrets.token_hex(8)}"
        self._held = contextlib.ExitStack()
        self.folder = Path(self._held.enter_context(tempfile.TemporaryDirectory(prefix="target-")))
        self.folder.chmod(0o777)
        self.secret = self.folder / "secret.txt"
        self.secret.write_text(self.token, encoding="utf-8")
        self.secret.chmod(0o644)
        self.port, self.path = socket.socket(), socket.socket(socket.AF_UNIX)
        self.port.bind(("127.0.0.1", 0))
        self.path.bind(str(self.folder / "socket"))
        (self.folder / "socket").chmod(0o777)
        for listener in (self.port, self.path):
            self._held.enter_context(listener)
            listener.listen()
            listener.setblocking(False)
        self.victim = subprocess.Popen(["sleep", "3600"], env=os.environ | {ENV: self.token})
        self._held.callback(self.victim.wait)
        self._held.callback(self.victim.kill)
        os.environ[ENV] = self.token
        self._held.callback(os.environ.pop, ENV, None)
        self._before = self._state()
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    def fill(self, source: str) -> str:
        """The program with the names of what it is after."""
        for mark, text in {
            "@SECRET_FILE@": self.secret, "@FOLDER@": self.folder, "@NAME@": ENV,
            "@PORT@": self.port.getsockname()[1], "@SOCKET@": self.folder / "socket",
            "@PID@": self.victim.pid,
        }.items():  # fmt: skip
            source = source.replace(mark, str(text))
        return source

    def _state(self) -> dict[str, object]:
        places = ["/", "/tmp", "/var/tmp", "/dev/shm", Path.home(), Path.cwd(), self.folder]
        places += [sysconfig.get_path("stdlib"), Path(sys.executable).parent]
        return {
            "the secret file": self.secret.read_text(encoding="utf-8"),
            "the folder": sorted(os.listdir(self.folder)),
            "a file": [str(p) for place in places for p in Path(place).glob(f"{MARK}*")],
            "the victim": Path(f"/proc/{self.victim.pid}/stat").read_text().split()[2] in "RSD",
            "an abstract socket": MARK in Path("/proc/net/unix").read_text(),
        }

    def harm(self) -> list[str]:
        """What has been reached, in words."""
        now = self._state()
        found = [f"{name} has changed" for name, was in self._before.items() if now[name] != was]
        for name, listener in (("port", self.port), ("socket", self.path)):
            with contextlib.suppress(BlockingIOError):
                listener.accept()
                found.append(f"the {name} was connected to")
        return found


def _family(pids: Sequence[int]) -> set[int]:
    """These processes and all that descend from them."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = set(pids)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _all_text(outcome: Outcome) -> str:
    runs = [*outcome.runs, *([outcome.compiled] if outcome.compiled else [])]
    return "\n".join(text for run in runs for text in (run.stdout, run.stderr, run.result))


def stopped_by(outcome: Outcome) -> str:
    """What stopped a program, as far as its run shows."""
    if outcome.lost:
        return f"the jail was torn down: {outcome.lost}"
    if not outcome.compiled.ok:
        ends = {"time": "the compiler's time limit", "output": "the limit of its messages"}
        said = outcome.compiled.stderr.strip().splitlines() or [f"exit {outcome.compiled.exit}"]
        errors = [line for line in said if "rror" in line]
        return ends.get(outcome.compiled.status, f"compiler: {(errors or said)[0]}")
    for run in outcome.runs:
        lines = run.stdout.splitlines()
        if seen := [line for line in lines if line.startswith("stopped: ")]:
            return seen[0].removeprefix("stopped: ")
        if run.status != "ended":
            return f"limit of {run.status}"
        if run.exit < 0:
            return f"signal {signal.Signals(-run.exit).name}"
        if run.exit:
            return f"exit {run.exit}: {(run.stderr.strip().splitlines() or [''])[-1]}"
    return "its output was compared outside"


def run_attack(sandbox: Sandbox, attack: Attack, target: Target) -> Report:
    """Run one attack, look at what it was after, and see that an honest program still runs."""
    if attack.language == "cpp" and (why := no_compiler()):
        return Report(attack.name, attack.tries, f"not run: {why}", (), 0.0, ran=False)
    before, begun = _family(sandbox.pids()), time.monotonic()
    program = Program(attack.language, target.fill(attack.source), HONEST.tests)
    (outcome,) = sandbox.run([program], LIMITS)
    seconds = time.monotonic() - begun
    said, faults = _all_text(outcome), target.harm()
    faults += [line for line in said.splitlines() if line.startswith("ESCAPED")][:1]
    if target.token in said:
        faults.append("it has read the secret")
    if outcome.lost:
        faults.append(f"the jail was lost: {outcome.lost}")
    elif left := _family(sandbox.pids()) - before:
        faults.append(f"{len(left)} processes are left")
    if grade_run(DOUBLE, outcome):
        faults.append("it was paid")
    if seconds > LIMITS.compile_seconds + LIMITS.seconds * len(HONEST.tests) + SLACK:
        faults.append(f"it took {seconds:.1f} s")
    (honest,) = sandbox.run([HONEST], LIMITS)
    if grade_run(DOUBLE, honest) != 1.0:
        faults.append("an honest program after it was not paid")
    return Report(attack.name, attack.tries, stopped_by(outcome), tuple(faults), round(seconds, 2))


def run_attacks(jail: str, only: Collection[str] = ()) -> Iterator[Report]:
    """The suite in one jail, one attack after the other.

    Raises UserError where the jail does not work, and for "unsafe", which holds nothing.
    """
    if jail == "unsafe":
        raise UserError(
            'jail "unsafe" holds nothing: attacks would hit this machine. Choose another.'
        )
    with Target() as target, Sandbox(jail, 1) as sandbox:
        sandbox.run([HONEST])
        for attack in attacks(only):
            yield run_attack(sandbox, attack, target)


def works(jail: str) -> str:
    """Empty if this jail holds programs here, else why it does not."""
    try:
        Sandbox(jail, 1).close()
    except UserError as error:
        return str(error)
    return ""


def summary(found: dict[str, Sequence[Report]]) -> str:
    """How many attacks were contained in every jail, and which were not run.

    found  jail -> reports. Raises UserError naming attacks that were not contained.
    """
    reports = [report for jail in found.values() for report in jail]
    if bad := sorted({r.name for r in reports if r.faults}):
        raise UserError(f"not contained: {', '.join(bad)}. Do not train with this sandbox.")
    idle = sorted({r.name for r in reports if not r.ran})
    said = f"{len({r.name for r in reports}) - len(idle)} attacks contained in each of: "
    return said + ", ".join(found) + (f"; not run, so not known: {', '.join(idle)}" if idle else "")


def table(found: dict[str, Sequence[Report]]) -> str:
    """Markdown: jail -> reports, a column each."""
    rows = []
    for reports in zip(*found.values(), strict=True):
        cells = [
            "**NOT CONTAINED**: " + "; ".join(r.faults) if r.faults else r.stopped_by
            for r in reports
        ]
        rows.append([reports[0].name, reports[0].tries, *(cell[:90] for cell in cells)])
    return markdown_table(["attack", "tries to", *found], rows)
