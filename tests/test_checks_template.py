"""Answers to the exercises of notebook 01: test_checks.py takes them all to the checks."""

import re

from r1lite.prompt import TINY_TEMPLATE, render, split_answer

BLOCKS = r"\s*<think>(.+?)</think>\s*<answer>(.+?)</answer>\s*"


def _fill(template, question):
    if "{question}." in template:
        question = question.rstrip(" .")
    return template.replace("{question}", question)


def _by_hand(text):
    tags = re.findall(r"</?(?:think|answer)>", text)
    if tags != ["<think>", "</think>", "<answer>", "</answer>"]:
        return ""
    before, think, between, final, after = re.split(r"</?(?:think|answer)>", text)
    if (before + between + after).strip() or not think.strip():
        return ""
    return final.strip()


def _search(pattern, text, group=1, flags=re.DOTALL):
    found = re.search(pattern, text, flags)
    return found[group].strip() if found else ""


def _fullmatch(text, pattern=BLOCKS, flags=re.DOTALL):
    found = re.fullmatch(pattern, text, flags)
    return found[2].strip() if found and found[1].strip() and found[2].strip() else ""


def _written(template, answer):
    return f"{template.rpartition('Assistant :')[2]} {answer}".strip()


def _parts(base, final):
    gain, lenient = (final[k] - base[k] for k in ("pass_at_1", "pass_at_1_lenient"))
    return gain, lenient, gain - lenient


def _gap(row):
    return row["pass_at_1_lenient"] - row["pass_at_1"]


RIGHT = {
    "fill_template": [
        _fill,
        lambda t, q: (
            q.rstrip(" .").join(t.split("{question}"))
            if "{question}." in t
            else q.join(t.split("{question}"))
        ),
    ],
    "strict_answer": [lambda text: split_answer(text).final or "", _by_hand],
    "as_written": [_written, lambda t, a: t.split("Assistant :")[1] + "\n" + a],
    "gain_parts": [_parts, lambda b, f: list(_parts(b, f))],
}
WRONG = {
    "fill_template": {
        "format": lambda t, q: t.format(question=q.rstrip(" .") if "{question}." in t else q),
        "format after the question is in": lambda t, q: _fill(t, q).format(),
        "full stop doubled": lambda t, q: t.replace("{question}", q),
        "full stop doubled, one space less": lambda t, q: _fill(
            t, q[:-1] if "{question}." in t else q
        ).replace("2 8 4.", "2 8 4 .", 1),
        "full stop always dropped": lambda t, q: t.replace("{question}", q.rstrip(" .")),
        "filled twice": lambda t, q: _fill(_fill(t, q), q),
        "think appended": lambda t, q: _fill(t, q) + " <think>",
        "think appended without a space": lambda t, q: _fill(t, q) + "<think>",
        "a space at the end": lambda t, q: _fill(t, q) + " ",
        "a line break at the end": lambda t, q: _fill(t, q) + "\n",
        "white space made even": lambda t, q: " ".join(_fill(t, q).split()),
        "braces dropped": lambda t, q: _fill(t, re.sub("[{}]", "", q)),
        "by name": lambda t, q: render(q, t),
        "template alone": lambda t, q: t,
        "no return": lambda t, q: None,
        "no function": "User : {question}",
    },
    "strict_answer": {
        "search anywhere": lambda t: _search(r"<answer>(.*?)</answer>", t),
        "last block anywhere": lambda t: (
            re.findall(r"<answer>(.*?)</answer>", t, re.DOTALL) or [""]
        )[-1],
        "both blocks, searched for": lambda t: _search(BLOCKS, t, 2),
        "any order": lambda t: (
            _search(r"<answer>(.+?)</answer>", t)
            if t.count("<think>") == t.count("</think>") == t.count("<answer>") == 1
            else ""
        ),
        "text after": lambda t: (
            (re.match(BLOCKS, t, re.DOTALL) or ["", "", ""])[2].strip()
            if t.count("<answer>") == t.count("<think>") == 1
            else ""
        ),
        "greedy": lambda t: _fullmatch(t, BLOCKS.replace("+?", "+")),
        "doubled tags": _fullmatch,
        "line breaks": lambda t: _fullmatch(t, flags=0),
        "think not asked for": lambda t: _search(
            r"^\s*(?:.*</think>)?\s*<answer>(.+?)</answer>$", t
        ),
        "closing tag not asked for": lambda t: (
            t.split("<answer>")[-1].replace("</answer>", "").strip()
            if t.count("<answer>") == t.count("<think>") == t.count("</think>") == 1
            else ""
        ),
        "empty think block": lambda t: (
            _search(r"^\s*<think>.*?</think>\s*<answer>(.+?)</answer>\s*$", t)
            if all(t.count(x) == 1 for x in ("<think>", "</think>", "<answer>", "</answer>"))
            else ""
        ),
        "whether": lambda t: split_answer(t).is_well_formed,
        "none for a broken format": lambda t: split_answer(t).final,
        "everything": lambda t: t,
    },
    "as_written": {
        "always": lambda t, a: f"<think> {a}",
        "never": lambda t, a: a,
        "if missing": lambda t, a: a if a.startswith("<think>") else f"<think> {a}",
        "never two": lambda t, a: a if a.startswith("<think>") else _written(t, a),
        "the tag alone": lambda t, a: f"<think> {a}" if t != TINY_TEMPLATE else a,
        "the tag at the end alone": lambda t, a: f"<think> {a}" if t.endswith("<think>") else a,
        "whole prompt": lambda t, a: f"{t} {a}",
        "the other way round": lambda t, a: f"{a} {t.rpartition('Assistant :')[2]}",
        "crashes": lambda t, a: t.answer,
        "a list": lambda t, a: [a],
    },
    "gain_parts": {
        "sign": lambda b, f: _parts(f, b),
        "gap of the base": lambda b, f: (*_parts(b, f)[:2], _gap(b)),
        "gap at the end": lambda b, f: (*_parts(b, f)[:2], _gap(f)),
        "rise of the format": lambda b, f: (*_parts(b, f)[:2], f["format"] - b["format"]),
        "shares": lambda b, f: [part / _parts(b, f)[0] for part in _parts(b, f)],
        "final values": lambda b, f: (f["pass_at_1"], f["pass_at_1_lenient"], -_gap(f)),
        "strict and lenient swapped": lambda b, f: (
            _parts(b, f)[1],
            _parts(b, f)[0],
            -_parts(b, f)[2],
        ),
        "tags before lenient": lambda b, f: (_parts(b, f)[0], _parts(b, f)[2], _parts(b, f)[1]),
        "cut off at 0": lambda b, f: (*_parts(b, f)[:2], max(0, _parts(b, f)[2])),
        "no sign": lambda b, f: (*_parts(b, f)[:2], abs(_parts(b, f)[2])),
        "two numbers": lambda b, f: _parts(b, f)[:2],
    },
}

LESSONS = {
    ("fill_template", "format"): "every brace",
    ("fill_template", "format after the question is in"): "every brace",
    ("fill_template", "full stop doubled"): "full stop is there twice",
    ("fill_template", "full stop doubled, one space less"): "full stop is there twice",
    ("fill_template", "full stop always dropped"): "full stop is gone",
    ("fill_template", "filled twice"): "filled in twice",
    ("fill_template", "think appended"): "the model itself has to write the tag",
    ("fill_template", "think appended without a space"): "the model itself has to write the tag",
    ("fill_template", "a space at the end"): "white space was added",
    ("fill_template", "a line break at the end"): "white space was added",
    ("fill_template", "white space made even"): "line break in the question is gone",
    ("fill_template", "braces dropped"): "braces of the question are gone",
    ("fill_template", "template alone"): "did not get in",
    ("strict_answer", "search anywhere"): "a missing tag",
    ("strict_answer", "last block anywhere"): "a missing tag",
    ("strict_answer", "both blocks, searched for"): "text after </answer>",
    ("strict_answer", "any order"): "wrong order",
    ("strict_answer", "text after"): "text after </answer>",
    ("strict_answer", "greedy"): "two answer blocks",
    ("strict_answer", "doubled tags"): "two answer blocks",
    ("strict_answer", "line breaks"): "line breaks are fine",
    ("strict_answer", "think not asked for"): "a missing tag",
    ("strict_answer", "closing tag not asked for"): "a missing tag",
    ("strict_answer", "empty think block"): "an empty think block",
    ("strict_answer", "whether"): "is no text",
    ("strict_answer", "everything"): "A keeps the format",
    ("as_written", "always"): "whatever the template is",
    ("as_written", "never"): "is missing",
    ("as_written", "if missing"): "made good even where nobody wrote it",
    ("as_written", "never two"): "do not fix it",
    ("as_written", "the tag alone"): "further words too",
    ("as_written", "the tag at the end alone"): "further words too",
    ("as_written", "whole prompt"): "that is the whole prompt",
    ("gain_parts", "sign"): "final minus base",
    ("gain_parts", "gap of the base"): "still lost at the end",
    ("gain_parts", "gap at the end"): "losing less",
    ("gain_parts", "rise of the format"): "how much the format rose",
    ("gain_parts", "shares"): "shares of the gain",
    ("gain_parts", "final values"): "final values",
    ("gain_parts", "strict and lenient swapped"): "first the strict gain",
    ("gain_parts", "tags before lenient"): "the last two are swapped",
    ("gain_parts", "cut off at 0"): "do not cut it off",
    ("gain_parts", "no sign"): "the third part has a sign",
}
