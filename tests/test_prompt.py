"""Templates on the way in, tags on the way out: one letter off is another experiment."""

import time
from dataclasses import replace

import pytest

from r1lite.evaluation import grade
from r1lite.policy.sample import sample_groups
from r1lite.prompt import (
    FORMATS,
    R1_ZERO_TEMPLATE,
    TEMPLATES,
    Format,
    get_format,
    last_answer,
    parse,
    question_of,
    render,
    split_answer,
)
from r1lite.prompt.answer import split_r1
from r1lite.records import Answer, Completion, Group, Problem, UserError
from r1lite.rewards import is_right_leniently, is_right_output, score

# arXiv 2501.12948v1, Table 1, typed in here a second time.
PAPER = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves "
    "it. The assistant first thinks about the reasoning process in the mind and then provides the "
    "user with the answer. The reasoning process and answer are enclosed within <think> </think> "
    "and <answer> </answer> tags, respectively, i.e., <think> reasoning process here </think> "
    "<answer> answer here </answer>. User: prompt. Assistant:"
)
MAKE_21 = Problem("p", "countdown", "3-4-6", "en", "", {"numbers": [6, 4, 3], "target": 21})
GOOD = "<think> 6 * 4 = 24 </think> <answer> 6 * 4 - 3 </answer>"


def test_the_r1_zero_template_is_the_papers_word_for_word():
    assert PAPER.replace("prompt", "{question}") == R1_ZERO_TEMPLATE
    assert render("prompt", "r1-zero") == PAPER


def test_the_template_leaves_think_to_the_model():
    assert render("1 + 1 ?", "r1-zero").endswith("User: 1 + 1 ?. Assistant:")
    assert render("1 + 1 ?", "tiny") == "User : 1 + 1 ? Assistant :"


@pytest.mark.parametrize(
    "question", ["add 1 and 2.", "add 1 and 2 .", "add 1 and 2", "add 1 and 2。"]
)
def test_the_template_closes_the_question_once(question):
    assert "User: add 1 and 2. Assistant:" in render(question, "r1-zero")


def test_a_question_may_hold_braces_and_template_words():
    assert "f{x} {question} Assistant:" in render("f{x} {question} Assistant:", "tiny")


def test_an_unknown_template_is_refused_by_name():
    with pytest.raises(UserError, match="'r2'.*tiny"):
        render("q", "r2")


@pytest.mark.parametrize(
    ("text", "think", "final"),
    [
        (GOOD, "6 * 4 = 24", "6 * 4 - 3"),
        ("<think>a</think><answer>b</answer>", "a", "b"),
        ("<think>\na\n\nb\n</think>\n\n<answer>\nc\nd\n</answer>\n", "a\n\nb", "c\nd"),
        ("  <think> a </think> <answer> b </answer>  ", "a", "b"),
        ("<think> a < b > c </think> <answer> b </answer>", "a < b > c", "b"),
        ("<think> think answer </think> <answer> b </answer>", "think answer", "b"),
    ],
)
def test_what_keeps_the_format(text, think, final):
    parts = split_answer(text)
    assert parts.is_well_formed
    assert (parts.think, parts.final) == (think, final)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "6 * 4 - 3",
        "<think> a </think>",
        "<answer> b </answer>",
        "<think> a <answer> b </answer>",
        "a </think> <answer> b </answer>",
        "<think> a </think> <answer> b",
        "<think> a </think> b </answer>",
        "<think> a </think> b",
        "<think> </think> <answer> b </answer>",
        "<think></think><answer>b</answer>",
        "<think> a </think> <answer> </answer>",
        "<think> a </think> <answer>\n\t</answer>",
        "<answer> b </answer> <think> a </think>",
        "</think> a <think> </answer> b <answer>",
        "<think> <answer> b </answer> </think>",
        "<think> a <answer> b </answer> c </think>",
        "<think> a </think> <answer> b </answer> done",
        "<think> a </think> <answer> b </answer> .",
        "so <think> a </think> <answer> b </answer>",
        "<think> a </think> and <answer> b </answer>",
        "<think> a </think> <answer> b </answer> <answer> c </answer>",
        "<think> a </think> <think> c </think> <answer> b </answer>",
        "<think> <think> a </think> </think> <answer> b </answer>",
        "<think> a </think> <answer> <answer> b </answer> </answer>",
        "<think> a </think> </think> <answer> b </answer>",
        "<think> a <think> c </think> <answer> b </answer>",
        "<think> a </think> <answer> b </answer> </answer>",
        "<think> a </think> <answer> b <think> c </answer>",
        "<THINK> a </THINK> <ANSWER> b </ANSWER>",
        "< think > a < / think > < answer > b < / answer >",
        "<think> a </think > <answer> b </answer>",
        f"{GOOD} {GOOD}",
    ],
)
def test_what_breaks_the_format(text):
    parts = split_answer(text)
    assert not parts.is_well_formed
    assert (parts.think, parts.final) == (None, None)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think> a </think> <answer> B </answer>", "B"),
        ("<think> a </think> <answer> B", "B"),
        ("<think> a </think> <answer> B </answer> done .", "B"),
        ("<think> a <answer> B </answer>", "B"),
        ("<think> a </think> B", "B"),
        ("maybe a answer B", "B"),
        ("可能 a 答案 B", "B"),
        ("<answer> A </answer> <answer> B </answer>", "B"),
        ("B", "B"),
        ("", ""),
    ],
)
def test_the_lenient_reading_ignores_the_tags(text, answer):
    assert last_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "strict", "lenient"),
    [
        (GOOD, True, True),
        (GOOD + " done .", False, True),
        ("<think> 6 * 4 = 24 </think> 6 * 4 - 3", False, True),
        ("try 6 * 4 = 24 answer 6 * 4 - 3", False, True),
        ("<think> 6 * 4 - 3 </think> <answer> 6 * 3 + 4 </answer>", False, False),
        ("<think> 6 * 4 - 3", False, True),
        ("6 * 4 - 3 so 6 + 4 + 3", False, False),
        ("6 * 4 - 3 = 21", False, True),
        ("21", False, False),
        ("so ) ( + -", False, False),
        ("", False, False),
    ],
)
def test_countdown_strict_and_lenient(text, strict, lenient):
    assert is_right_output(MAKE_21, text) is strict
    assert is_right_leniently(MAKE_21, text) is lenient


@pytest.mark.parametrize(
    "text",
    [
        "(" * 20_000 + "+" * 20_000 + "x",
        "( " * 20_000 + "+ " * 20_000,
        "1 + " * 20_000,
        "<think>" + "</think> <answer>" * 10_000 + "</answer>" * 10_000 + "x",
        "<think>" * 20_000,
        "<answer>" * 20_000 + "</answer>" * 20_000,
    ],
)
def test_hostile_texts_are_read_quickly(text):
    """A regular expression that backtracks would hang a run on one degenerate answer."""
    begun = time.perf_counter()
    assert not split_answer(text).is_well_formed
    assert not is_right_leniently(MAKE_21, text)
    last_answer(text)
    assert time.perf_counter() - begun < 1.0


def test_r1s_own_format_has_no_answer_tags():
    whole = split_r1("<think> 6 * 4\n</think>\n\nThe answer is 24 .")
    assert (whole.think, whole.final) == ("6 * 4", "The answer is 24 .")
    for text in (
        "<think> a </think>", "<think> </think> 24", "<think> \u200b </think> 24", "24",
        "so <think> a </think> 24", "<think> a 24", "<think> a </think> <think> b </think> 24",
        "<think> a </think> <answer> 24 </answer>", "<think> a </think> </answer>", "",
    ):  # fmt: skip
        assert split_r1(text) == Answer(None, None), text
    assert not split_answer("<think> a </think> 24").is_well_formed


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_renders_and_reads(name):
    fmt = get_format(name)
    assert fmt.name == name and get_format(fmt) is fmt
    if fmt.is_chat:
        with pytest.raises(UserError, match="by the tokenizer"):
            render("1 + 1 ?", name)
    else:
        assert "1 + 1 ?" in fmt.render("1 + 1 ?") == render("1 + 1 ?", name)
    is_r1 = name in ("r1", "tiny-r1", "chat")
    final = "6 * 4 - 3" if is_r1 else "<answer> 6 * 4 - 3 </answer>"
    text = f"<think> try </think> {final}"
    assert fmt.split(text) == Answer("try", "6 * 4 - 3") and fmt.lenient(text) == "6 * 4 - 3"
    assert is_right_output(MAKE_21, text, name) and is_right_leniently(MAKE_21, text, name)
    other = "r1" if name in ("tiny", "r1-zero") else "tiny"
    assert not is_right_output(MAKE_21, text, other)


def prompt_of(problem, name):
    """What a policy is asked, up to what a tokenizer's own template puts around it."""
    fmt = get_format(name)
    question = question_of(problem, fmt)
    return question if fmt.is_chat else fmt.render(question)


@pytest.mark.parametrize("name", FORMATS)
def test_other_models_than_the_tiny_ones_are_told_the_rules(name):
    """The tiny base knows the game from documents, and the words of a rule are none of its own."""
    rules = ("each of these numbers exactly once", "+ - * /", "expression")
    prompt = prompt_of(MAKE_21, name)
    if "tiny" in name:
        assert prompt == render(MAKE_21.question, name)
    else:
        assert all(rule in prompt for rule in rules) and MAKE_21.question in prompt
        assert ("in the answer tags" in prompt) == (name == "r1-zero")
        assert prompt.endswith("Assistant:") or name == "chat"
        assert ".." not in prompt.replace("...", "")
        assert prompt_of(replace(MAKE_21, language="zh"), name) == prompt
    other = replace(MAKE_21, family="maths", question="1 + 1 ?")
    assert prompt_of(other, name) == ("1 + 1 ?" if name == "chat" else render("1 + 1 ?", name))


def test_a_template_of_ones_own_states_no_rules_unless_it_says_where_answers_go(monkeypatch):
    """Notebooks ask the tiny base with templates of their own, and to go on with half an answer."""
    monkeypatch.setitem(TEMPLATES, "bare", "{question}")
    assert prompt_of(MAKE_21, "bare") == MAKE_21.question
    mine = Format("mine", "Q {question}", place="on the last line")
    assert prompt_of(MAKE_21, mine).endswith("nothing else, on the last line.")


def test_every_sampled_prompt_states_the_rules(mini, monkeypatch):
    asked = []
    monkeypatch.setattr(type(mini), "encode", lambda self, text: asked.append(text) or [1])
    sample_groups(
        mini, [MAKE_21], group_size=1, max_new_tokens=1, temperature=1.0, seed=0, template="r1-zero"
    )
    assert asked == [prompt_of(MAKE_21, "r1-zero")] and "exactly once" in asked[0]


def test_a_template_of_ones_own_is_a_format_with_the_tags_of_r1_zero(monkeypatch):
    monkeypatch.setitem(TEMPLATES, "bare", "{question}")
    assert render("1 + 1", "bare") == "1 + 1" and get_format("bare").split is split_answer
    monkeypatch.setitem(FORMATS, "mine", Format("mine", "Q {question}", split=split_r1))
    assert render("1", "mine") == "Q 1"


def test_completions_are_taken_apart_once():
    calls = []

    def split(text):
        calls.append(text)
        return Answer("a", text)

    group = Group(MAKE_21, (1,), (Completion((1,), (0.0,), "6 * 4 - 3", False),))
    fmt = Format("once", "{question}", split=split)
    (parsed,) = parse([group], fmt)
    assert parsed.completions[0].answer == Answer("a", "6 * 4 - 3")
    assert parse([parsed], fmt) == [parsed] == [group], "what it is read as makes no other sample"
    scored = score([group], {"accuracy": 1.0, "format": 1.0}, fmt)
    assert scored[0].rewards == (2.0,) and grade(scored, fmt=fmt).pass_at_1 == 1.0
    assert calls == ["6 * 4 - 3"] * 2
