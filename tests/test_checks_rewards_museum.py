"""Answers to the exercises of notebook 02: test_checks.py takes them all to the checks."""

import itertools
import math
import re

NAN = float("nan")


def _letters(final):
    return re.findall(r"\b[A-D]\b", final)


def _one_letter(final, gold):
    return _letters(final) == [gold]


def _at(place, found, gold):
    """Whether the letter at a place of those found is the gold."""
    return bool(found) and found[place] == gold


def _zip(expected, printed):
    return all(a == b for a, b in zip(expected.splitlines(), printed.splitlines()))


def _same_output(expected, printed):
    return expected.splitlines() == printed.splitlines()


def _kept(values):
    return [value for value in values if value is not None]


def _checked(values):
    kept = _kept(values)
    return sum(kept) / max(len(kept), 1), 1 - len(kept) / len(values)


def _none_as(value, values):
    filled = [value if v is None else v for v in values]
    return sum(filled) / len(filled), values.count(None) / len(values)


RIGHT = {
    "exploit": [[1.0, 0.0, 0.0], (1, 0, 0)],
    "one_letter": [_one_letter, lambda f, g: float(len(_letters(f)) == 1 and g in _letters(f))],
    "same_output": [
        _same_output,
        lambda e, p: (
            len(e.splitlines()) == len(p.splitlines())
            and all(a.strip() == b.strip() for a, b in zip(e.splitlines(), p.splitlines()))
        ),
    ],
    "order_pair": [[1.0, 0.0], (True, False)],
    "checked_mean": [_checked, lambda v: list(_checked(v))],
}
WRONG = {
    "exploit": {
        "no format": [0, 0, 0],
        "no format, with a sum": [0, 0, 1],
        "one number": [3 / 21, 1 / 21, 0],
        "one digit": [1 / 21, 1 / 21, 0],
        "one number, worked out": [2 / 21, 1 / 21, 1],
        "every number, worked out": [1, 0, 1],
        "every number, one in a box": [1, 1 / 21, 0],
        "digits": [11 / 21, 0, 0],
        "half of the numbers": [0.5, 0, 0],
        "two values": [1.0, 0.0],
        "the text itself": "<think> hm </think> <answer> 11 </answer>",
        "one value": 1.0,
    },
    "one_letter": {
        "substring": lambda f, g: g in f,
        "among the words": lambda f, g: g in f.split(),
        "bare": lambda f, g: f.strip() == g,
        "first capital": lambda f, g: _at(0, re.findall("[A-D]", f), g),
        "last capital": lambda f, g: _at(-1, re.findall("[A-D]", f), g),
        "one capital": lambda f, g: re.findall("[A-D]", f) == [g],
        "first letter": lambda f, g: _at(0, _letters(f), g),
        "last letter": lambda f, g: _at(-1, _letters(f), g),
        "begins with": lambda f, g: f.startswith(g),
        "any one letter": lambda f, g: len(_letters(f)) == 1,
        "the letter": lambda f, g: g,
        "always": lambda f, g: True,
        "swapped": lambda f, g: _one_letter(g, f),
        "crashes": lambda f, g: _letters(f)[0] == g,
    },
    "same_output": {
        "zip": _zip,
        "zip, but not nothing": lambda e, p: bool(p) and _zip(e, p),
        "zip, and long enough": lambda e, p: _zip(e, p) and len(p) >= len(e) - 1,
        "begins with what is expected": lambda e, p: p.startswith(e),
        "exact": lambda e, p: e == p,
        "words": lambda e, p: e.split() == p.split(),
        "sorted": lambda e, p: sorted(e.splitlines()) == sorted(p.splitlines()),
        "sets": lambda e, p: set(e.splitlines()) == set(p.splitlines()),
        "a beginning": lambda e, p: e.startswith(p),
        "contained": lambda e, p: bool(p) and p in e,
        "as many lines": lambda e, p: len(e.splitlines()) == len(p.splitlines()),
        "last line": lambda e, p: e.splitlines()[-1:] == p.splitlines()[-1:],
        "longest": lambda e, p: any(
            a == b for a, b in itertools.zip_longest(e.splitlines(), p.splitlines())
        ),
    },
    "order_pair": {
        "the same in both": [1, 1],
        "different in both": [0, 0],
        "turned round": [0, 1],
        "unreadable": [NAN, 0],
        "unreadable when swapped": [1, NAN],
        "one value": [1],
        "a pair of texts": ["1 < x < 2", "(1, 2)"],
    },
    "checked_mean": {
        "None as 0": lambda v: _none_as(0.0, v),
        "None as 0, unseen": lambda v: (_none_as(0.0, v)[0], 0.0),
        "None as 1": lambda v: _none_as(1.0, v),
        "if value": lambda v: (sum(x for x in v if x) / max(sum(map(bool, v)), 1), _checked(v)[1]),
        "count": lambda v: (_checked(v)[0], v.count(None)),
        "share that was checked": lambda v: (_checked(v)[0], 1 - _checked(v)[1]),
        "swapped": lambda v: _checked(v)[::-1],
        "unseen": lambda v: (_checked(v)[0], 0.0),
        "adds None": lambda v: (sum(v) / len(v), 0.0),
        "mean alone": lambda v: _checked(v)[0],
        "divides by nothing": lambda v: (sum(_kept(v)) / len(_kept(v)), _checked(v)[1]),
        "nan for nothing": lambda v: (_checked(v)[0] if _kept(v) else math.nan, _checked(v)[1]),
    },
}
LESSONS = {
    ("exploit", "no format"): "pays nothing at all",
    ("exploit", "no format, with a sum"): "pays nothing at all",
    ("exploit", "one number"): "commits itself to one number",
    ("exploit", "one digit"): "commits itself to one number",
    ("exploit", "one number, worked out"): "commits itself to one number",
    ("exploit", "every number, worked out"): "it calculates",
    ("exploit", "every number, one in a box"): "such as in a box",
    ("exploit", "digits"): "a gold of two digits",
    ("exploit", "half of the numbers"): r"it must be \[1.0, 0.0, 0.0\]",
    ("one_letter", "substring"): "looked for anywhere",
    ("one_letter", "among the words"): "looked for among the words",
    ("one_letter", "bare"): "only the bare letter",
    ("one_letter", "first capital"): "the first letter decides",
    ("one_letter", "last capital"): "the last letter decides",
    ("one_letter", "one capital"): "Bohr is no answer",
    ("one_letter", "first letter"): "the first of the letters",
    ("one_letter", "last letter"): "the last of the letters",
    ("one_letter", "begins with"): "only the first character",
    ("one_letter", "crashes"): "IndexError",
    ("same_output", "zip"): "zip stops at the shorter",
    ("same_output", "zip, but not nothing"): "the first line alone is still enough",
    ("same_output", "zip, and long enough"): "lines too many are not",
    ("same_output", "begins with what is expected"): "lines too many are not",
    ("same_output", "exact"): "to the letter",
    ("same_output", "words"): "cuts at spaces",
    ("same_output", "sorted"): "the order of the lines",
    ("same_output", "sets"): "the order of the lines",
    ("same_output", "a beginning"): "a beginning of what is expected",
    ("same_output", "contained"): "a beginning of what is expected",
    ("order_pair", "the same in both"): "the same in both orders",
    ("order_pair", "different in both"): "different in both orders",
    ("order_pair", "turned round"): "Turn the pair round",
    ("order_pair", "unreadable"): "means nothing as a gold",
    ("order_pair", "unreadable when swapped"): "means nothing as a gold",
    ("checked_mean", "None as 0"): "None was counted as 0",
    ("checked_mean", "None as 0, unseen"): "None was counted as 0",
    ("checked_mean", "None as 1"): "None was counted as 1",
    ("checked_mean", "if value"): "thrown out together with None",
    ("checked_mean", "count"): "asked is the share",
    ("checked_mean", "share that was checked"): "Asked is the share that was not",
    ("checked_mean", "swapped"): "the two are swapped",
    ("checked_mean", "unseen"): "without a trace",
    ("checked_mean", "adds None"): "cannot be added",
    ("checked_mean", "divides by nothing"): "ZeroDivisionError",
    ("checked_mean", "nan for nothing"): "no mean of nothing",
}
