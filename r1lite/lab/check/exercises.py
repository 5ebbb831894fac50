"""The exercises in data/exercises: finding and reading them, and saying what is wrong with one."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...policy.load import REPO
from ...records import UserError
from ..four import FOUR
from .marking import Slip, Step, build, fill, same

FOLDER = "data/exercises"
README = f"{FOLDER}/README.md says what each key holds."
COMMON = ("where", "spaces", "not_text", "stops")  # what an exercise may say for all its steps
STEPS = {  # the three kinds of step: the keys that it must have, and those that it may have
    "numbers": (("numbers",), ("inputs", "calls", "where", "slips", "tolerance")),
    "text": (("text",), ("inputs", "calls", "where", "slips", "reason")),
    "truth": (("truth", "reason"), ("inputs", "calls", "where")),
}
SLIPS = ("gives", "gives_any", "shape", "nan")
TYPES = {  # what the value of a key must be; a text if the key is not named here
    **dict.fromkeys(("texts", "exercises", "stops"), dict),
    **dict.fromkeys(("steps", "inputs", "calls", "slips", "gives_any", "shape"), list),
    **dict.fromkeys(("numbers", "text", "truth", "gives"), object),  # _check_result sees to them
    "nan": bool,
    "tolerance": float,
}
WORDS = {dict: "{ }", list: "a list [ ]", bool: "true", float: "a decimal number", str: "a text"}


class NoExercise(UserError, AttributeError):
    """A name that is in no file; an AttributeError too, because it is asked for as `check.NAME`."""


def entries() -> dict[str, tuple[str, Any, dict[str, str]]]:
    """Name of every exercise -> its place, its entry as written, the texts it may refer to.

    The files are read anew each time: they are small, and an edit shows without a restart.
    """
    found = {}
    for path in _files():
        place = f"{FOLDER}/{path.name}"
        content = _read(path, place)
        _check_keys(place, content, must=("exercises",), may=("texts",))
        for name, entry in content["exercises"].items():
            here = f"{place}, exercise {name!r}"
            _need(name not in found, here, "another file has an exercise of that name: rename it.")
            found[name] = (here, entry, {**content.get("texts", {}), **FOUR})
    return found


def load(name: str) -> tuple[str, list[Step]]:
    """The signature and the steps of an exercise; raises UserError if its entry has a mistake."""
    known = entries()
    if name not in known:
        raise NoExercise(
            f"no exercise is called {name!r} in {', '.join(p.name for p in _files())} ({FOLDER}). "
            f"If a file is missing, `git checkout {FOLDER}` brings it back."
        )
    place, entry, texts = known[name]
    _check_keys(place, entry, must=("signature", "steps"), may=COMMON)
    entry = _put_in(entry, texts, place)
    fine = entry.get("spaces", "exact") in ("exact", "ends", "all")
    _need(fine, place, "`spaces` must be exact, ends or all.")
    _need(entry["steps"], place, "`steps` is empty: an exercise needs at least one step.")
    common = {key: entry[key] for key in COMMON if key in entry}
    steps = enumerate(entry["steps"], start=1)
    return entry["signature"], [_step(f"{place}, step {i}", step, common) for i, step in steps]


def _files() -> list[Path]:
    for folder in (Path(FOLDER), REPO / FOLDER):
        if files := sorted(folder.glob("*.json")):
            return files
    raise UserError(
        f"there is no .json file in {FOLDER}, where the checks read what is right. "
        f"Bring the folder back with `git checkout {FOLDER}`."
    )


def _read(path: Path, place: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_doubles)
    except ValueError as error:
        raise UserError(
            f"{place} is not JSON: {error}. Fix it there; often a comma is missing or too many."
        ) from error


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of the file; JSON would let the second of two equal keys hide the first."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"one of the keys {', '.join(found)} is there twice")
    return found


def _put_in(written: Any, texts: dict[str, str], place: str) -> Any:
    """A copy of an entry with every <<NAME>> replaced by the text of that name."""
    if isinstance(written, dict):
        return {key: _put_in(value, texts, place) for key, value in written.items()}
    if isinstance(written, list):
        return [_put_in(value, texts, place) for value in written]
    if not isinstance(written, str):
        return written
    for name in re.findall(r"<<([A-Za-z]\w*)>>", written):
        rule = f"<<{name}>> must name a text of the file; there are {', '.join(texts)}."
        _need(isinstance(texts.get(name), str), place, rule)
        written = written.replace(f"<<{name}>>", texts[name])
    return written


def _step(place: str, entry: Any, common: dict[str, Any]) -> Step:
    kind = _only_one(place, entry, tuple(STEPS))
    _check_keys(place, entry, *STEPS[kind])
    _need("inputs" not in entry or "calls" not in entry, place, "give `inputs` or `calls`.")
    calls = entry.get("calls", [entry["inputs"]] if "inputs" in entry else None)
    _need(calls != [] and all(isinstance(c, list) for c in calls or []), place, "a call is a list.")
    own = {key: entry[key] for key in ("where", "tolerance", "reason") if key in entry}
    step = Step(kind, entry[kind], calls, "calls" in entry, **{**common, **own})
    _check_result(place, step, step.want)
    try:
        for inputs in map(build, calls or [[]]):
            fill(" ".join([step.where, *(step.stops or {}).values()]), inputs)
    except (IndexError, TypeError, ValueError, RuntimeError) as error:
        rule = f"a tensor needs numbers, and <<1>> a first input ({error})."
        raise UserError(f"{place}: {rule} {README}") from error
    known, slips = [step.want], []
    for i, slip in enumerate(entry.get("slips", []), start=1):
        slips.append(_slip(f"{place}, slip {i}", slip, step, known))
        known += slips[-1].results
    return replace(step, slips=slips)


def _slip(place: str, entry: Any, step: Step, known: list) -> Slip:
    kind = _only_one(place, entry, SLIPS)
    _check_keys(place, entry, ("lesson", kind))
    results = entry.get("gives_any", [entry["gives"]] if kind == "gives" else [])
    for result in results:
        _check_result(place, step, result)
        rule = "its result is right, or that of an earlier slip: change it or leave the slip out."
        _need(not any(same(result, other, step) for other in known), place, rule)
    fine = step.kind == "numbers" and entry.get("shape") != _shape(step.want)
    rule = f"`{kind}` is for numbers, and a `shape` for another one than that of the right answer."
    _need(fine or kind in ("gives", "gives_any"), place, rule)
    return Slip(entry["lesson"], results, entry.get("shape"), entry.get("nan", False))


def _check_result(place: str, step: Step, result: Any) -> None:
    """A result that is written in the data is of the step's kind, one for each call."""
    each = step.each(result)
    fine = isinstance(each, list) and (not step.several or len(each) == len(step.calls))
    if step.kind == "numbers":
        fine = fine and _shape(result) is not None and _shape(result) == _shape(step.want)
    else:
        wanted = str if step.kind == "text" else bool
        fine = fine and all(isinstance(value, wanted) for value in each)
    rule = f"a result of {step.kind} is wanted, shaped as the right answer, and one for each call."
    _need(fine, place, rule)


def _shape(numbers: Any) -> list[int] | None:
    try:
        return list(build({"tensor": numbers}).shape)
    except (TypeError, ValueError, RuntimeError):
        return None


def _only_one(place: str, entry: Any, keys: tuple[str, ...]) -> str:
    found = [key for key in keys if isinstance(entry, dict) and key in entry]
    _need(len(found) == 1, place, f"it needs exactly one of the keys {', '.join(keys)}.")
    return found[0]


def _check_keys(place: str, entry: Any, must: tuple[str, ...], may: tuple[str, ...] = ()) -> None:
    _need(isinstance(entry, dict), place, f"it must be {{ }} with {', '.join(must)}.")
    missing = [key for key in must if key not in entry]
    _need(not missing, place, f"it lacks {', '.join(missing)}: add what is missing.")
    for key, value in entry.items():
        rule = f"{key!r} is unknown here: rename it or leave it out. The keys are "
        _need(key in (*must, *may), place, f"{rule}{', '.join((*must, *may))}.")
        wanted = TYPES.get(key, str)
        _need(isinstance(value, wanted), place, f"{key!r} must be {WORDS.get(wanted)}.")


def _need(fine: Any, place: str, rule: str) -> None:
    if not fine:
        raise UserError(f"{place}: {rule} {README}")
