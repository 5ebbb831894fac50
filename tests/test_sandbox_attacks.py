"""The runner of attacks sees what it should: programs that do harm are called by their name."""

import os
import signal
import subprocess
from dataclasses import replace

import pytest

from r1lite import __main__ as command_line
from r1lite.lab import attacks
from r1lite.records import UserError
from r1lite.sandbox import JAILS, Sandbox, jail

WORKING = [name for name in JAILS[:2] if not jail.missing(name)]
PATIENT = attacks.Attack("a", "python", "try", "none", "")


@pytest.fixture(scope="module")
def target():
    with attacks.Target() as found:
        yield found


@pytest.fixture(scope="module")
def no_jail():
    with Sandbox("unsafe", 1) as found:
        found.run([attacks.HONEST])
        yield found


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("print(open('@SECRET_FILE@').read())", "it has read the secret"),
        ("open('@FOLDER@/r1lite-attack', 'w').close()", "the folder has changed"),
        ("print('ESCAPED to the moon')", "ESCAPED to the moon"),
        ("print(int(input()) * 2)", "it was paid"),
        ("import os, signal\nos.kill(@PID@, signal.SIGSTOP)", "the victim has changed"),
        (
            "import socket\nsocket.create_connection(('127.0.0.1', @PORT@))",
            "the port was connected",
        ),
        (
            "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('@SOCKET@')",
            "the socket was connected to",
        ),
    ],
)
def test_harm_is_seen(source, fault, no_jail):
    """Mild programs, run without a jail on purpose: what they reach has to be reported."""
    with attacks.Target() as target:
        report = attacks.run_attack(no_jail, replace(PATIENT, source=source), target)
    assert any(fault in found for found in report.faults), report


def test_a_process_that_stays_is_seen(target, monkeypatch):
    """A jailed process whose parent has ended is a child of the jail's first: one of the family."""
    with subprocess.Popen(
        ["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE
    ) as shell:
        grandchild = int(shell.stdout.readline())
        assert attacks._family([shell.pid]) == {shell.pid, grandchild}
        os.kill(grandchild, signal.SIGKILL)
    with Sandbox("unsafe", 1) as sandbox:
        sandbox.run([attacks.HONEST])
        families = iter([{1}, {1, 2, 3}])
        monkeypatch.setattr(attacks, "_family", lambda pids: next(families))
        report = attacks.run_attack(sandbox, replace(PATIENT, source="print(7)"), target)
    assert report.faults == ("2 processes are left",)


@pytest.mark.parametrize("name", WORKING)
def test_a_harmless_program_is_no_fault(name, target):
    with Sandbox(name, 1) as sandbox:
        sandbox.run([attacks.HONEST])
        for source, why in (
            ("print('stopped: by a wall')", "by a wall"),
            ("while True: pass", "limit of time"),
            ("raise SystemExit('no')", "exit 1: SystemExit: no"),
            ("import os\nos.abort()", "signal SIGABRT"),
            ("print(", "compiler: SyntaxError: '(' was never closed"),
            ("print(7)", "its output was compared outside"),
        ):
            report = attacks.run_attack(sandbox, replace(PATIENT, source=source), target)
            assert not report.faults and report.stopped_by == why


def test_the_suite_is_whole():
    """At least 50, each with what it tries and its wall, in both languages, without idle marks."""
    suite = attacks.attacks()
    assert len(suite) >= 50 and len({(a.tries, a.language) for a in suite}) == len(suite)
    assert {attack.language for attack in suite} == {"python", "cpp"}
    marks = ("SECRET_FILE", "FOLDER", "PORT", "SOCKET", "PID", "NAME")
    for mark in marks:
        assert any(f"@{mark}@" in attack.source for attack in suite), mark


def test_bad_names_and_files_are_named(tmp_path):
    with pytest.raises(UserError, match="'nothing' is unknown"):
        attacks.attacks(["nothing"])
    (tmp_path / "a.py").write_text("print(1)\n")
    with pytest.raises(UserError, match="a.py.*'tries:'"):
        attacks.attacks(folder=tmp_path)
    with pytest.raises(UserError, match="holds nothing"):
        next(attacks.run_attacks("unsafe"))


def test_the_table_has_a_column_for_each_jail():
    made = attacks.Report("a", "read | write", "walls", (), 0.1)
    bad = replace(made, faults=("it was paid", "it took 9 s"))
    assert attacks.table({"one": [made], "two": [bad]}).splitlines() == [
        "| attack | tries to | one | two |",
        "|---|---|---|---|",
        "| a | read \\| write | walls | **NOT CONTAINED**: it was paid; it took 9 s |",
    ]


def test_the_verb_fails_if_one_is_not_contained(monkeypatch, capsys):
    made = attacks.Report("a", "try", "walls", (), 0.1)
    monkeypatch.setattr(attacks, "works", lambda name: "" if name == "bubblewrap" else "not here")
    monkeypatch.setattr(attacks, "run_attacks", lambda name, only: [made])
    assert command_line.main(["sandbox"]) == 0
    assert "namespaces: not here" in capsys.readouterr().out
    assert command_line.main(["sandbox", "--attack"]) == 0
    assert "attacks contained in each of: bubblewrap" in capsys.readouterr().out
    bad = replace(made, faults=("it was paid",))
    monkeypatch.setattr(attacks, "run_attacks", lambda name, only: [bad])
    assert command_line.main(["sandbox", "--attack"]) == 2
    assert "not contained: a." in capsys.readouterr().err
    assert command_line.main(["sandbox", "--jail", "namespaces"]) == 2
    assert "not here" in capsys.readouterr().err
