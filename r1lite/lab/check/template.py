"""Exercises on prompts in and tags out (notebook 01)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ...prompt import R1_ZERO_TEMPLATE, TINY_TEMPLATE
from ..four import FOUR
from .marking import call, compare, is_untried, passed

_BOXED = "User : {question} Put it in \\boxed{} . Assistant :"
_LATEX = "what is \\frac{1}{2} of {x}\n= 8 ?"
_TALKING = "what does {question} do here ?"
_PLAIN = "make 24 from 2 8 4 ."


def fill_template(mine: Callable | None) -> None:
    """f(template, question) -> prompt; where a full stop follows {question}, its own is dropped."""
    name = "fill_template"
    if is_untried(name, mine):
        return
    before, after = R1_ZERO_TEMPLATE.split("{question}")
    plain = before + "make 24 from 2 8 4" + after
    cases: list[tuple[str, str, str, dict[str, Sequence[str]]]] = [
        (
            R1_ZERO_TEMPLATE,
            _PLAIN,
            plain,
            {
                "the full stop is there twice: the paper's template puts one behind the question, "
                "so the question's own, with the space before it, has to go.": [
                    before + _PLAIN + after,
                    before + "make 24 from 2 8 4 " + after,
                ],
                "a <think> was added. The template ends at `Assistant:`; the model itself has to "
                "write the tag.": [f"{plain} <think>", f"{plain}<think>", f"{plain} <think>\n"],
                "white space was added at the end. What follows `Assistant:` is the model's to "
                "write, the space before its first word too.": [f"{plain} ", f"{plain}\n"],
                "the question did not get in.": [R1_ZERO_TEMPLATE],
            },
        ),
        (
            TINY_TEMPLATE,
            _PLAIN,
            f"User : {_PLAIN} Assistant :",
            {
                "the full stop is gone. This template puts none behind the question, so the "
                "question keeps its own.": [
                    "User : make 24 from 2 8 4 Assistant :",
                    "User : make 24 from 2 8 4  Assistant :",
                ],
            },
        ),
        (TINY_TEMPLATE, _LATEX, f"User : {_LATEX} Assistant :", _spoilt(_LATEX)),
        (_BOXED, "add 1 and 2 .", _BOXED.replace("{question}", "add 1 and 2 ."), {}),
        (
            TINY_TEMPLATE,
            _TALKING,
            f"User : {_TALKING} Assistant :",
            {
                "a question may itself hold {question}, and yours was filled in twice. Replace "
                "once, in the template, not again in what comes out.": [
                    f"User : {_TALKING.replace('{question}', _TALKING)} Assistant :"
                ],
            },
        ),
    ]
    for template, question, want, slips in cases:
        try:
            got = mine(template, question) if callable(mine) else None
        except (KeyError, IndexError, ValueError) as error:
            raise AssertionError(
                f"{name}: stopped with {type(error).__name__}: {error}. str.format takes every "
                "brace of a text for a place of its own, and templates and questions in LaTeX are "
                f"full of braces. Replace {{question}} and nothing else. Template: {template!r}, "
                f"question: {question!r}."
            ) from error
        except Exception:  # call below tells it in the words of every other check
            got = None
        got = call(name, mine, template, question) if got is None else got
        _same(name, got, want, slips, f" for the template {template!r} and {question!r}")
    passed(name)


def _spoilt(question: str) -> dict[str, Sequence[str]]:
    tidy = " ".join(question.split())
    return {
        "the line break in the question is gone. A template puts a question in as it is.": [
            f"User : {tidy} Assistant :"
        ],
        "the braces of the question are gone. They are part of it.": [
            "User : " + question.replace("{", "").replace("}", "") + " Assistant :"
        ],
    }


def strict_answer(mine: Callable | None) -> None:
    """f(text) -> what stands in the answer block; "" unless the format is kept strictly."""
    name = "strict_answer"
    if is_untried(name, mine):
        return
    think, final = "<think> a </think>", "<answer> b </answer>"
    cases = [
        (FOUR["A"], "( 8 - 2 ) * 4", "A keeps the format"),
        (f"<think>\na\n\na\n</think>\n{final}\n", "b", "line breaks are fine: re.DOTALL"),
        (FOUR["D"], "", "D never opens the answer block"),
        ("a </think> " + final, "", "a missing tag: the think block was never opened"),
        (f"{think} <answer> b", "", "a missing tag: the answer block is never closed"),
        (f"{final} {think}", "", "the blocks are in the wrong order"),
        (f"{think} {final} done .", "", "text after </answer>: nothing may stand outside"),
        (f"so {think} {final}", "", "text before <think>: nothing may stand outside"),
        (f"{think} and {final}", "", "text between the blocks: nothing may stand outside"),
        (f"{think} {final} <answer> c </answer>", "", "two answer blocks: guessing twice"),
        (f"<think> {think} {final}", "", "a doubled tag: two <think> and one </think>"),
        (f"<think> a {final} </think> {final}", "", "an answer block inside the thinking as well"),
        (f"{think} <answer> </answer>", "", "an empty answer block"),
        (f"<think> </think> {final}", "", "an empty think block"),
    ]
    for text, want, reason in cases:
        got = call(name, mine, text)
        if not isinstance(got, str):
            raise AssertionError(
                f"{name}: {got!r} is no text. Give back what stands in the answer block, or an "
                'empty text "" where the format is not kept.'
            )
        if got.strip() != want:
            raise AssertionError(
                f"{name}: for {text!r} it must be {want!r}, you have {got!r}. Reason: {reason}."
            )
    passed(name)


def as_written(mine: Callable | None) -> None:
    """f(template, answer) -> the text to score: what the template puts behind `Assistant :` too."""
    name = "as_written"
    if is_untried(name, mine):
        return
    whole, headless = FOUR["C"], FOUR["C"].removeprefix("<think> ")
    forced, begun = f"{TINY_TEMPLATE} <think>", f"{TINY_TEMPLATE} <think> maybe"
    cases = [
        (TINY_TEMPLATE, whole),
        (forced, headless),
        (TINY_TEMPLATE, headless),
        (forced, whole),
        (begun, headless.removeprefix("maybe ")),
    ]
    right = [whole, whole, headless, f"<think> {whole}", whole]
    always = [f"<think> {answer}" for _, answer in cases]
    slips = {
        "the tag is put in front whatever the template is. Under the usual template the model "
        "writes its own <think>: a good answer gets two and loses its reward, and one that forgot "
        "the tag is paid.": [always],
        "what the template wrote for the model is missing. Under a template that ends in <think> "
        "no answer would keep the format, however good it is.": [[answer for _, answer in cases]],
        "a missing tag is made good even where nobody wrote it. Under the usual template an answer "
        "that forgot <think> has broken the format, and must not be paid.": [
            [a if a.startswith("<think>") else f"<think> {a}" for _, a in cases],
        ],
        "a second <think> is taken away. If the template wrote one and the model another, there "
        "are two, and the format is broken: look at what is there, do not mend it.": [
            [whole, whole, headless, whole, whole],
        ],
        "only <think> itself is looked for. Whatever the template puts behind `Assistant :` "
        "belongs to the answer, further words too.": [
            [*right[:4], f"<think> {cases[4][1]}"],
            [*right[:4], cases[4][1]],
        ],
        "that is the whole prompt. Only what stands behind `Assistant :` was written in the "
        "model's name.": [[f"{template} {answer}" for template, answer in cases]],
    }
    got = [call(name, mine, *case) for case in cases]
    texts = [" ".join(text.split()) if isinstance(text, str) else text for text in got]
    for lesson, lists in slips.items():
        if texts in lists and texts != right:
            raise AssertionError(f"{name}: {lesson}")
    for (template, answer), text, want in zip(cases, texts, right):
        _same(name, text, want, {}, f" for the template {template!r} and the answer {answer!r}")
    passed(name)


def gain_parts(mine: Callable | None) -> None:
    """f(base, final) -> (gain, part that is there with tags ignored, the rest: tags)."""
    name = "gain_parts"
    if is_untried(name, mine):
        return
    base = {"pass_at_1": 0.20, "pass_at_1_lenient": 0.35, "format": 0.45}
    final = {"pass_at_1": 0.70, "pass_at_1_lenient": 0.75, "format": 0.90}
    slips = {
        "the sign: a gain is final minus base.": [-0.5, -0.4, -0.1],
        "the third is what the base lost to its tags. Some of that is still lost at the end: take "
        "the gain minus its lenient part.": [0.5, 0.4, 0.15],
        "the third is what is still lost to tags at the end. Asked is how much of the gain came "
        "from losing less.": [0.5, 0.4, 0.05],
        "the third is how much the format rose. An answer in the format may be wrong: take the "
        "gain minus its lenient part.": [0.5, 0.4, 0.45],
        "those are shares of the gain. Asked are differences.": [1.0, 0.8, 0.2],
        "those are the final values. What did the base score?": [0.7, 0.75, -0.05],
        "the first two are swapped: first the strict gain.": [0.4, 0.5, -0.1],
        "the last two are swapped: first the lenient part, then the tags.": [0.5, 0.1, 0.4],
    }
    where = f" for base {base} and final {final}"
    compare(name, call(name, mine, base, final), [0.5, 0.4, 0.1], slips, where=where)
    base = {"pass_at_1": 0.30, "pass_at_1_lenient": 0.30, "format": 1.0}
    final = {"pass_at_1": 0.50, "pass_at_1_lenient": 0.60, "format": 0.8}
    slips = {
        "here a tenth was lost to tags on the way: the third part is negative, so do not cut it "
        "off at 0.": [0.2, 0.3, 0.0],
        "here tags were lost, not won: the third part has a sign.": [0.2, 0.3, 0.1],
    }
    where = f" for base {base} and final {final}"
    compare(name, call(name, mine, base, final), [0.2, 0.3, -0.1], slips, where=where)
    passed(name)


def _same(
    name: str, got: object, want: str, slips: Mapping[str, Sequence[str]], where: str
) -> None:
    """Raise unless got is want; a text that matches a known slip is told what it is."""
    if got == want:
        return
    for lesson, texts in slips.items():
        if got in texts:
            raise AssertionError(f"{name}: {lesson}")
    raise AssertionError(f"{name}: you have {got!r}, it must be {want!r}{where}.")
