"""data/exercises: every slip is told by its lesson, and a mistake in an entry is told clearly."""

import importlib
import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from conftest import complaint_of

from r1lite.lab import check
from r1lite.lab.check import exercises, special
from r1lite.lab.check.exercises import FOLDER, NoExercise, entries, load
from r1lite.lab.four import FOUR
from r1lite.prompt import R1_ZERO_TEMPLATE, TINY_TEMPLATE
from r1lite.records import UserError

DATA = Path(__file__).resolve().parents[1] / FOLDER
NAMES = sorted(entries())
STEPS = {name: load(name)[1] for name in NAMES}


def every_slip():
    """(exercise, step, lesson, a result that shows the slip) for all of them."""
    for name, steps in STEPS.items():
        for n, step in enumerate(steps):
            for slip in step.slips:
                results = list(slip.results)
                if slip.shape:
                    results.append(torch.zeros(slip.shape))
                if slip.nan:
                    results.append(torch.full(torch.tensor(step.want).shape, torch.nan))
                assert results, slip
                yield from ((name, n, slip.lesson, result) for result in results)


SLIPS = list(every_slip())


def replies(name, n_step, last):
    """What a learner's function gives in turn: right before step n_step, there what `last` says."""
    right = [reply for step in STEPS[name][:n_step] for reply in step.each(step.want)]
    return right + STEPS[name][n_step].each(last)


def say(name, answers):
    """Ask the check about a function that gives these answers one after the other."""
    rest = iter(answers)
    getattr(check, name)(lambda *inputs: next(rest))


def fake(name, n_step, result):
    """Gives the slip's result when its step comes; answers right before that."""
    if STEPS[name][n_step].calls is None:
        return result
    rest = iter(replies(name, n_step, result))
    if name != "clipped_gain":
        return lambda *inputs: next(rest)
    calls = iter([*[None] * (n_step // 2), torch.tensor(result)])  # gains and slopes in pairs

    def gain(ratio, advantage, epsilon):
        given = next(calls)
        clipped = ratio.clamp(1 - epsilon, 1 + epsilon)
        return torch.minimum(ratio * advantage, clipped * advantage) if given is None else given

    return gain


def test_every_entry_is_a_check_and_every_check_an_entry():
    assert set(check.__all__) == {*NAMES, *special.CHECKS}
    assert not set(NAMES) & set(special.CHECKS) and set(special.MARKERS) <= set(NAMES)
    for name in NAMES:  # a name of a module here, such as `marking`, would hide the exercise
        assert name.isidentifier() and getattr(check, name).__name__ == name
        assert name not in vars(check)
    assert sorted(path.name for path in DATA.iterdir() if path.suffix != ".json") == ["README.md"]


@pytest.mark.parametrize("name, n_step, lesson, result", SLIPS)
def test_every_slip_is_told_by_its_lesson(name, n_step, lesson, result):
    assert complaint_of(getattr(check, name), fake(name, n_step, result)) == f"{name}: {lesson}"


def test_the_slips_were_looked_at():
    assert len(SLIPS) > 120
    assert {name for name, *_ in SLIPS} == set(NAMES) - {"strict_answer", "uses_each_once"}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "clipped_gain"])
def test_what_the_data_call_right_is_right(name, capsys):
    last = STEPS[name][-1]
    if last.calls is None:
        getattr(check, name)(last.want)
    else:
        say(name, replies(name, len(STEPS[name]) - 1, last.want))
    assert capsys.readouterr().out == f"{name}: right.\n"


@pytest.mark.parametrize(
    "name, n_step",
    [(name, n) for name, steps in STEPS.items() for n, step in enumerate(steps) if step.reason],
)
def test_every_reason_is_told(name, n_step):
    step = STEPS[name][n_step]
    wrong = not step.want if step.kind == "truth" else "something else"
    message = complaint_of(say, name, replies(name, n_step, wrong))
    assert message.endswith(f": {step.reason}.") and f"{name}: for " in message


def test_texts_that_are_written_twice_agree():
    texts = json.loads((DATA / "01_template.json").read_text(encoding="utf-8"))["texts"]
    assert texts["BEFORE"] + "{question}" + texts["AFTER"] == R1_ZERO_TEMPLATE
    assert texts["TINY"] == TINY_TEMPLATE
    assert f"<think> {texts['BEGUN']}" == f"<think> maybe {texts['REST']}" == FOUR["C"]


README = (DATA / "README.md").read_text(encoding="utf-8")
EXAMPLE = json.loads(README.partition("```json\n")[2].partition("```")[0])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty data/exercises in the current folder; it comes before the library's own."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    return folder


def write(folder, content, name="mine.json"):
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, encoding="utf-8")


def complaint(name="mean", kind=UserError) -> str:
    with pytest.raises(kind) as caught:
        getattr(check, name)
    message = str(caught.value)
    assert "\n" not in message and message.endswith("."), message
    return message


def test_the_example_of_the_readme_works(folder, capsys):
    write(folder, EXAMPLE)
    assert check.__all__ == ["cheat", "clip_counterexample", "mean"]
    check.mean(lambda values: sum(values) / len(values))
    assert capsys.readouterr().out == "mean: right.\n"
    for wrong in (sum, lambda values: 7):
        assert f"`{complaint_of(check.mean, wrong)}`" in README


def test_every_key_is_in_the_readme():
    keys = {*exercises.COMMON, *exercises.STEPS, *exercises.SLIPS, *exercises.TYPES}
    for must, may in exercises.STEPS.values():
        keys |= {*must, *may}
    assert all(f"| `{key}` |" in README for key in keys)


BAD = {
    "no steps": (lambda e: e.pop("steps"), "lacks steps"),
    "no signature": (lambda e: e.pop("signature"), "lacks signature"),
    "empty steps": (lambda e: e.update(steps=[]), "at least one step"),
    "steps no list": (lambda e: e.update(steps={}), "'steps' must be a list"),
    "a step no object": (lambda e: e.update(steps=[3]), "step 1: it needs exactly one"),
    "a key too many": (lambda e: e.update(slips=[]), "'slips' is unknown here"),
    "spaces": (lambda e: e.update(spaces="some"), "exact, ends or all"),
    "a signature of numbers": (lambda e: e.update(signature=3), "'signature' must be a text"),
    "no such text": (lambda e: e.update(where=" at <<HOME>>"), "<<HOME>> must name a text"),
    "no such input": (lambda e: e["steps"][0].update(where=" <<2>>"), "step 1: a tensor needs"),
    "no result": (lambda e: e["steps"][1].pop("numbers"), "step 2: it needs exactly one"),
    "two kinds": (lambda e: e["steps"][1].update(text="x"), "step 2: it needs exactly one"),
    "step key": (lambda e: e["steps"][0].update(slip=[]), "step 1: 'slip' is unknown"),
    "both": (lambda e: e["steps"][0].update(calls=[[1]]), "give `inputs` or `calls`"),
    "inputs": (lambda e: e["steps"][0].update(inputs=3), "'inputs' must be a list"),
    "tensor": (lambda e: e["steps"][0].update(inputs=[{"tensor": "x"}]), "tensor needs numbers"),
    "words": (lambda e: e["steps"][0].update(numbers="three"), "a result of numbers"),
    "ragged": (lambda e: e["steps"][1].update(numbers=[[1, 2], [3]]), "a result of numbers"),
    "tolerance": (lambda e: e["steps"][0].update(tolerance="1"), "must be a decimal number"),
    "truth": (
        lambda e: e.update(steps=[{"inputs": [], "truth": "yes", "reason": "so"}]),
        "a result of truth",
    ),
    "no reason": (lambda e: e.update(steps=[{"inputs": [], "truth": True}]), "lacks reason"),
    "no call": (lambda e: e.update(steps=[{"calls": [], "numbers": []}]), "a call is a list"),
    "too few": (
        lambda e: e.update(steps=[{"calls": [[1], [2]], "text": ["a"]}]),
        "one for each call",
    ),
}
BAD_SLIPS = {
    "right": ({"lesson": "so", "gives": 3.0}, "its result is right"),
    "nearly right": ({"lesson": "so", "gives": 3.001}, "its result is right"),
    "the same again": ({"lesson": "so", "gives": 9}, "that of an earlier slip"),
    "right too": ({"lesson": "so", "gives_any": [5, 3]}, "its result is right"),
    "no lesson": ({"gives": 5}, "lacks lesson"),
    "no result": ({"lesson": "so"}, "exactly one of the keys gives, gives_any, shape, nan"),
    "two results": ({"lesson": "so", "gives": 5, "nan": True}, "exactly one of the keys"),
    "unknown key": ({"lesson": "so", "gives": 5, "why": "so"}, "'why' is unknown"),
    "other shape": ({"lesson": "so", "gives": [5]}, "shaped as the right answer"),
    "right shape": ({"lesson": "so", "shape": []}, "than that of the right answer"),
    "a text": ({"lesson": "so", "gives": "5"}, "a result of numbers"),
    "no object": (5, "exactly one of the keys"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_in_an_entry_is_told(folder, case):
    change, words = BAD[case]
    content = deepcopy(EXAMPLE)
    change(content["exercises"]["mean"])
    write(folder, content)
    message = complaint()
    assert message.startswith(f"{FOLDER}/mine.json, exercise 'mean'") and words in message
    assert message.endswith(f"{FOLDER}/README.md says what each key holds.")


@pytest.mark.parametrize("case", BAD_SLIPS)
def test_a_mistake_in_a_slip_is_told(folder, case):
    slip, words = BAD_SLIPS[case]
    content = deepcopy(EXAMPLE)
    content["exercises"]["mean"]["steps"][0]["slips"].append(slip)
    write(folder, content)
    message = complaint()
    assert message.startswith(f"{FOLDER}/mine.json, exercise 'mean', step 1, slip 3: ")
    assert words in message


def test_a_slip_of_text_may_not_equal_what_is_right_but_for_white_space(folder):
    step = {"inputs": [], "text": "a b", "slips": [{"lesson": "so", "gives": " a  b"}]}
    entry = {"signature": "f() -> a b.", "spaces": "all", "steps": [step]}
    write(folder, {"exercises": {"mean": entry}})
    assert "its result is right" in complaint()
    entry["spaces"] = "exact"
    write(folder, {"exercises": {"mean": entry}})
    assert complaint_of(check.mean, lambda: " a  b") == "mean: so"


@pytest.mark.parametrize(
    "content, words",
    [
        ('{"exercises": {"mean": }}', "is not JSON"),
        ('{"exercises": {"mean": 1, "mean": 2}}', "is there twice"),
        ('["mean"]', "it must be { }"),
        ('{"exercise": {}}', "lacks exercises"),
        ('{"exercises": [1]}', "'exercises' must be { }"),
        ('{"exercises": {}, "text": {}}', "'text' is unknown"),
        ('{"exercises": {"mean": 1}}', "it must be { } with signature, steps"),
    ],
)
def test_a_mistake_in_a_file_is_told(folder, content, words):
    write(folder, content)
    message = complaint()
    assert message.startswith(f"{FOLDER}/mine.json") and words in message


def test_a_file_that_is_no_text_is_told(folder):
    (folder / "mine.json").write_bytes(b"\xff\xfe\x00")
    assert f"{FOLDER}/mine.json is not JSON" in complaint()


def test_two_files_may_not_have_the_same_exercise(folder):
    write(folder, EXAMPLE)
    write(folder, EXAMPLE, "other.json")
    assert "other.json, exercise 'mean': another file" in complaint()


def test_a_missing_file_is_told(folder, monkeypatch):
    write(folder, EXAMPLE)
    message = complaint("gae", NoExercise)
    assert "'gae'" in message and "mine.json" in message and "git checkout" in message
    assert not hasattr(check, "gae") and isinstance(NoExercise("x"), AttributeError | UserError)
    (folder / "mine.json").unlink()
    assert check.gae.__name__ == "gae"  # an empty folder: those of the library
    monkeypatch.setattr(exercises, "REPO", folder)
    assert f"no .json file in {FOLDER}" in complaint("gae")


def test_nothing_is_read_before_an_exercise_is_used(folder):
    write(folder, "nonsense")
    importlib.reload(check)
    check.cheat(None)
    assert not hasattr(check, "__wrapped__")
    assert "is not JSON" in complaint("gae")
