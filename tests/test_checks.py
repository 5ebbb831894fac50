"""Every check of an exercise accepts the right answers and rejects at least four wrong ones.

The answers stand in files of their own, test_checks_<theme>.py: RIGHT (name -> answers), WRONG
(name -> slip -> answer) and LESSONS ((name, slip) -> a pattern that its message has to match).
A new file of that name is found here and needs no tests of its own.
"""

import contextlib
import importlib
import inspect
import re
import threading
import time
from pathlib import Path

import pytest
from conftest import complaint_of

from r1lite import Completion, Group, is_right_leniently, score
from r1lite.lab import check
from r1lite.lab.check import marking
from r1lite.lab.four import FOUR, PROBLEM

FILES = sorted(path.stem for path in Path(__file__).parent.glob("test_checks_*.py"))
THEMES = [importlib.import_module(name) for name in FILES]


def gather(table: str) -> dict:
    """The tables of that name of all themes in one; no name may stand in two of them."""
    found = {}
    for theme in THEMES:
        entries = getattr(theme, table, {})
        assert not found.keys() & entries.keys(), (theme.__name__, table)
        found |= entries
    return found


RIGHT, WRONG, LESSONS = (gather(table) for table in ("RIGHT", "WRONG", "LESSONS"))
CALLED = [name for name, answers in RIGHT.items() if callable(answers[0])]


def complaint(name, answer) -> str:
    return complaint_of(getattr(check, name), answer)


def test_every_check_is_tested():
    assert set(RIGHT) == set(WRONG) == set(check.__all__)
    assert len(check.__all__) >= 25 and len(CALLED) >= 21
    assert all(len(wrong) >= 4 for wrong in WRONG.values())
    assert all(len(right) >= 2 for right in RIGHT.values())


@pytest.mark.parametrize("name", RIGHT)
def test_accepts_the_right_answer(name, capsys):
    for answer in RIGHT[name]:
        getattr(check, name)(answer)
        assert capsys.readouterr().out == f"{name}: right.\n"


@pytest.mark.parametrize("name", RIGHT)
def test_not_trying_is_no_error(name, capsys):
    getattr(check, name)(None)
    told = f"{name}: not tried yet. The next cells use r1lite's version.\n"
    assert capsys.readouterr().out == told


@pytest.mark.parametrize("name, slip", [(n, s) for n, slips in WRONG.items() for s in slips])
def test_rejects(name, slip):
    message = complaint(name, WRONG[name][slip])
    assert message.startswith(f"{name}: ") and len(message) > 40


@pytest.mark.parametrize("name, slip", LESSONS)
def test_the_message_names_the_slip(name, slip):
    assert re.search(LESSONS[name, slip], complaint(name, WRONG[name][slip]))


@pytest.mark.parametrize("name", CALLED)
def test_a_function_that_stops_is_explained(name):
    message = complaint(name, lambda *inputs: 1 / 0)
    assert message.startswith(f"{name}: your function stopped with ZeroDivisionError: division")
    assert "The input was " in message


@pytest.mark.parametrize("name", CALLED)
def test_nonsense_is_refused_in_words(name):
    assert "gives back None" in complaint(name, lambda *inputs: None)
    assert "is no function" in complaint(name, 17)
    assert complaint(name, lambda *inputs: "nonsense").startswith(f"{name}: ")


@pytest.mark.parametrize("name", RIGHT)
def test_help_says_what_is_asked(name):
    checker = getattr(check, name)
    assert checker.__name__ == name and name in dir(check)
    first = inspect.getdoc(checker).splitlines()[0]
    assert first.startswith("f(") is (name in CALLED) and first.endswith(".")


def test_the_four_invented_answers_are_worth_what_the_check_says():
    group = Group(PROBLEM, (), tuple(Completion((), (), text, False) for text in FOUR.values()))
    scored = score([group], {"accuracy": 1.0, "format": 0.2})[0]
    assert scored.rewards == (1.2, 1.2, 0.2, 0.0)
    right = [is_right_leniently(PROBLEM, text) for text in FOUR.values()]
    assert right == [True, True, False, True]
    check.four_rewards(scored.rewards)


def for_ever(*inputs):
    while True:
        with contextlib.suppress(Exception):  # as a careless loop does
            time.sleep(0.001)


def asleep(*inputs):
    time.sleep(60)


@pytest.mark.parametrize("function", [for_ever, asleep])
@pytest.mark.parametrize("name", ["advantages", "clipped_gain", "strict_answer"])
def test_a_function_without_an_end_is_stopped(name, function, monkeypatch):
    monkeypatch.setattr(marking, "LIMIT", 0.2)
    begun, before = time.monotonic(), set(threading.enumerate())
    message = complaint(name, function)
    assert "did not come to an end" in message and "The input was " in message
    assert time.monotonic() - begun < 10
    if function is for_ever:
        time.sleep(0.2)
        assert set(threading.enumerate()) <= before


def test_it_works_outside_the_main_thread(monkeypatch):
    """Where signals do not come, such as under a server."""
    monkeypatch.setattr(marking, "LIMIT", 0.2)
    said = []
    thread = threading.Thread(target=lambda: said.append(complaint("advantages", for_ever)))
    thread.start()
    thread.join(20)
    assert "did not come to an end" in said[0]


def test_a_function_that_ends_the_program_is_explained():
    assert "stopped with SystemExit" in complaint("advantages", lambda rewards: exit(3))


CHANGES = {
    "advantages": lambda rewards: rewards.sub_(rewards.mean(1, keepdim=True)),
    "pass_at_1": lambda right: (right.clear(), 0.5)[1],
    "checked_mean": lambda values: (values.append(1.0), (0.5, 0.5))[1],
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_function_that_changes_its_input_is_told_so(name):
    assert "changes its input" in complaint(name, CHANGES[name])


def test_a_wrong_answer_is_set_aside_and_stops_nothing(capsys):
    """As a notebook has it: the cells below say `my_pass_at_1 or ...`."""
    cells = "check.pass_at_1(my_pass_at_1)\nours = my_pass_at_1 or 'the library'"
    names = {"check": check, "my_pass_at_1": lambda right: 7.0, "my_guess": 1, "my_other": 1}
    exec(cells, names)
    assert names["ours"] == "the library" and names["my_pass_at_1"] is None
    assert names["my_guess"] == names["my_other"] == 1
    said = capsys.readouterr().out
    assert said.startswith("pass_at_1: ") and "my_pass_at_1 is None again" in said
    kept = names["my_pass_at_1"] = RIGHT["pass_at_1"][0]
    exec(cells, names)
    assert names["ours"] is kept


@pytest.mark.parametrize(
    ("mine", "measured"),
    [("ab", lambda pair: [1.0, 1.0]), (7, lambda pair: [float(x) for x in pair])],
)
def test_an_answer_that_is_measured_first_is_set_aside_as_well(capsys, mine, measured):
    """Wrong, or of a kind that cannot be measured at all: Run All goes on with r1lite's."""
    names = {"check": check, "my_pair": mine, "both_orders": measured}
    exec("check.order_pair(my_pair, both_orders)", names)
    said = capsys.readouterr().out
    assert names["my_pair"] is None and "my_pair is None again" in said
    assert ("of another kind" in said) == (mine == 7)
