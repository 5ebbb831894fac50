"""Answers in mathematics as real models write them, right ones and near misses, each as a whole
completion; and what a grader must not take for the same, kind by kind."""

import time
import warnings

import pytest

from r1lite.config import RunConfig
from r1lite.evaluation import grade
from r1lite.learn.grpo import problems_for
from r1lite.prompt import get_format
from r1lite.records import UNCHECKED, Completion, Group, Problem
from r1lite.rewards import maths_reward, unpayable
from r1lite.rewards.maths import matches_reference
from r1lite.rewards.maths_text import one_answer, vote, with_unit

HOURS = "How many hours does she work?"
PERCENT = "What percent of the cars are red?"
BASE = "Write 11 in base 2."
Q = "Find the value."
STEPS = r"""We set up the equation $2x + 3 = 13$ and subtract 3 from both sides:

\[ 2x = 10. \]

Dividing by 2 gives $x = 5$. To check, $2 \cdot 5 + 3 = 13$, as required. """

# question, gold, what the answer says, its worth. Of GSM8K the gold is a bare number.
ANSWERS = [
    # GSM8K
    ("How many clips?", "72", "72", 1),
    ("How many clips?", "72", "Natalia sold $\\boxed{72}$ clips in April and May.", 1),
    ("How many clips?", "72", "48 24", 0),
    ("How many clips?", "72", "\\boxed{48 + 25}", 0),
    ("How many clips?", "72", "#### 72", 1),
    ("How many clips?", "72", "**72 clips**", 1),
    ("How many clips?", "72", "about 72 clips", 0),
    ("How much does he earn?", "18", "He makes \\boxed{\\$18} every day.", 1),
    ("How much does he earn?", "18", "$18", 1),
    ("How much does he earn?", "18", "The answer is **$18.00**.", 1),
    ("How much does he earn?", "18", "18 USD", 1),
    ("How much does he earn?", "18", "€18", 1),
    ("How much does he earn?", r"\$18", "€18", 0),
    ("How much does he earn?", r"\$18", "18 cents", 0),
    ("How much does he earn?", "70000", "\\boxed{70,000}", 1),
    ("How much does he earn?", "70000", "\\boxed{\\$70\\,000}", 1),
    ("How much does he earn?", "70000", "70 000 dollars", 1),
    ("How much does he earn?", "70", "70 000", 0),
    (HOURS, "3.5", "3 1/2 hours", 1),
    (HOURS, "3.5", "\\boxed{3\\frac{1}{2}}", 1),
    (HOURS, "3.5", "3½", 1),
    (HOURS, "2", "3 1/2", 0),
    (PERCENT, "28", "28 percent", 1),
    (PERCENT, "28", "\\boxed{28\\%}", 1),
    (PERCENT, r"28\%", "28％", 1),
    (PERCENT, r"28\%", "0.28", 1),
    (PERCENT, r"28\%", "0.28%", 0),
    # MATH
    (Q, "5", STEPS * 40 + "\n\nThe answer is $\\boxed{x=5}$.", 1),
    (Q, "5", STEPS * 40 + "\n\nThe answer is $\\boxed{2x=10}$.", 0),
    (Q, "17", "17.", 1),
    (Q, "5", "Final Answer: $x=5.$", 1),
    (Q, "5", "4=5", 0),
    (Q, r"\frac{1}{3}", r"\boxed{0.\overline{3}}", 1),
    (Q, r"0.\overline{3}", r"\boxed{\dfrac{1}{3}}", 1),
    (Q, r"\frac{1}{3}", r"\boxed{0.3333333333}", 0),
    (Q, r"\sqrt{2}", r"\boxed{1.41421356237}", 0),
    (Q, r"\sqrt{2}", r"\boxed{\frac{2}{\sqrt{2}}}", 1),
    (Q, r"9\pi\text{ cm}^2", r"\boxed{9\pi}", 1),
    (Q, "9\\pi", r"The area is $\boxed{9\pi\text{ cm}^2}$.", 1),
    (Q, r"9\pi\text{ cm}^2", r"\boxed{9\pi\text{ cm}}", 0),
    (Q, r"540\text{ m}", r"\boxed{540~\text{m}}", 1),
    (Q, "540", r"\boxed{540\mathrm{~cm}}", 1),
    (Q, r"540\text{ m}", r"\boxed{540\mathrm{~kg}}", 0),
    (Q, r"90^\circ", "90°", 1),
    (Q, r"90^\circ", "90%", 0),
    (Q, "x=3, y=4", r"\boxed{y = 4, x = 3}", 1),
    (Q, "x=3, y=4", r"\boxed{4, 3}", 0),
    (Q, "(4,3)", r"\boxed{\{3,4\}}", 0),
    (Q, "(4,3)", r"\boxed{\left(4,3\right)}", 1),
    (Q, "(1,2)", "（１，２）", 1),
    (BASE, "1011_2", r"\boxed{1011_{2}}", 1),
    (BASE, "1011_2", r"\boxed{1011_{10}}", 0),
    (BASE, "1011_2", r"\boxed{11}", 0),
    (Q, r"\text{east}", r"\boxed{\text{east}}", 1),
    (Q, r"\text{east}", r"\boxed{\text{seat}}", 0),
    ("On which day?", "Friday", "It is **Friday**.", 1),
    ("On which day?", "Friday", "Friday or Saturday", 0),
    ("Is it even?", "Yes", "\\boxed{yes}", 1),
    ("Is it even?", "Yes", "no", 0),
    (Q, "no solution", r"\boxed{\text{No solution}}", 1),
    (Q, "no solution", r"\boxed{0}", 0),
    (Q, "DNE", r"\boxed{\text{DNE}}", 1),
    # AIME
    (Q, "73", "**73**", 1),
    (Q, "73", "**Final Answer**\n\\boxed{73}", 1),
    (Q, "73", "\\boxed{73} ... so \\boxed{073}", 0),
    (Q, "73", "We get \\boxed{73}, and checking, again \\boxed{73}.", 1),
    (Q, "73", "\\boxed{73}, or perhaps \\boxed{37}", 0),
    (Q, "73", "７３", 1),
    (Q, "150", "1.5e2", 1),
    (Q, "15", "1.5e2", 0),
    (Q, r"1-\frac{1}{2010!}", r"\boxed{1+\frac{1}{2010!}}", 0),
    (Q, r"\frac{1}{2^{98}}", r"\boxed{\frac{1}{2^{99}}}", 0),
    (Q, "0.0000002", "0.0000001", 0),
]
# for each, the way in which one of the two formats says it
DRESS = {
    "r1-zero": "<think> Let me see. So we add them up. </think> <answer> {} </answer>",
    "r1": "<think>\nOkay, let me see. It could be 12 or 13, I guess.\n</think>\n\n{}",
}


@pytest.mark.parametrize("name", DRESS)
def test_real_answers_are_worth_what_they_say(name):
    fmt = get_format(name)
    texts = [DRESS[name].replace("{}", said) for _, _, said, _ in ANSWERS]
    golds = [
        Problem(f"p{i}", "maths", "c", "en", question, {"answer": gold})
        for i, (question, gold, _, _) in enumerate(ANSWERS)
    ]
    parsed = [fmt.split(text) for text in texts]
    found = maths_reward([""] * len(texts), texts, problem=golds, parsed=parsed)
    wrong = [(row, value) for row, value in zip(ANSWERS, found) if value != row[3]]
    assert not wrong
    assert len(ANSWERS) >= 60 and 25 <= sum(row[3] for row in ANSWERS) <= 45


def verdict(gold, said: str, question: str = "q") -> bool | None:
    return matches_reference(Problem("p", "maths", "c", "en", question, {"answer": gold}), said)


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        ("7", "3 4"), ("12", "3 4"), ("7", "3(4)"), ("7", "(3)(4)"), ("5.5", "5 .5"),
        ("9", r"3\binom{4}{2}"), ("1000", "100 0"), ("12", "1 2"), ("6", "1 2 3"),
    ],
)  # fmt: skip
def test_numbers_side_by_side_are_neither_added_nor_glued(gold, said):
    assert verdict(gold, said) is False


def test_what_is_a_product_is_one():
    for gold, said in (
        ("12", "3(4)"),
        ("12", "(3)(4)"),
        ("18", r"3\binom{4}{2}"),
        ("x^2", "(x)(x)"),
    ):
        assert verdict(gold, said) is True
    assert verdict("7/2", r"3\frac{1}{2}") is verdict("-7/2", "-3 1/2") is True


@pytest.mark.parametrize("power", [20, 60, 98, 400])
def test_exact_numbers_are_compared_exactly_however_close(power):
    gold = rf"\frac{{1}}{{2^{{{power}}}}}"
    assert verdict(gold, rf"2^{{-{power}}}") is True
    for near in (
        rf"\frac{{1}}{{2^{{{power + 1}}}}}",
        f"-{gold}",
        rf"{gold} + 10^{{-{power * 2}}}",
        "0",
    ):
        assert verdict(gold, near) is False
    assert verdict(rf"\sqrt{{2}} + {gold}", r"\sqrt{2}") is False
    assert verdict(f"0.{'0' * power}1", f"0.{'0' * power}2") is False
    assert verdict(rf"1 - {gold}", rf"1 + {gold}") is False


def test_a_left_side_is_dropped_only_if_it_is_a_name():
    for said in (
        "x=5",
        r"\text{Area} = 5",
        "AB = 5",
        "f(2)=5",
        "P(A) = 5",
        "x = 2 + 3 = 5",
        "5 = x",
    ):
        assert verdict("5", said) is True, said
    for said in ("2x=5", "4=5", "x+1=5", "x=4=5", "5=4", "x^2=5", "xy=5"):
        assert verdict("5", said) is False, said
    assert verdict("x=5", "y=5") is verdict("x=5", "2x=10") is False
    assert verdict("5, 6", "x=5, 2y=6") is verdict("5, 6", "5, 2y=6") is False
    assert verdict("x<1, x>3", "x>3, x<1") is True
    assert verdict("y=2x+1", "2x-y+1=0") is True


def test_equations_keep_their_names_and_pairs_their_order():
    for said in ("x=3, y=4", "y=4,x=3", "(3,4)"):
        assert verdict("x=3, y=4", said) is True
    for said in ("4,3", "(4,3)", "x=4, y=3", "x=3", "a=3, b=4", r"\{3,4\}"):
        assert verdict("x=3, y=4", said) is False
    for gold in ("(3,4)", "(4,3)", "(1,2,3)"):
        values = gold.strip("()")
        assert verdict(gold, gold) is True
        assert verdict(gold, values) is verdict(gold, rf"\{{{values}\}}") is False
        assert verdict(rf"\{{{values}\}}", gold) is False


def test_units_are_compared_where_the_gold_names_one():
    units = [
        "cm",
        "cm^2",
        "m",
        "kg",
        "hours",
        "minutes",
        "km/h",
        "square feet",
        "%",
        r"^\circ",
        "€",
    ]
    for i, unit in enumerate(units):
        gold = f"12{unit}" if unit[0] in "%^" else rf"12\text{{ {unit}}}"
        assert with_unit(rf"\boxed{{{gold}}}")[0] == "12", unit
        for other in units[i:]:
            said = f"12{other}" if other[0] in "%^" else rf"12\text{{ {other}}}"
            same = verdict(gold, said)
            assert same is (unit == other), (gold, said)
        assert verdict(gold, "12") is True
        assert verdict("12", rf"12\text{{ {unit}}}" if unit[0] not in "%^" else "12°") is True
    for said in (
        "12 km per hour",
        "12 kilometers per hour",
        "12 km/h",
        r"12~\mathrm{km/h}",
        "12 kmh",
    ):
        assert verdict("12 km/h", said) is True


@pytest.mark.parametrize("gold", [None, "", "1 2", r"\frac{1}{0}", r"\frac{", "?", "3 | 4"])
def test_a_gold_that_does_not_pay_itself_is_not_checked_and_is_named(gold):
    assert verdict(gold, "1") is verdict(gold, str(gold)) is None
    bad = Problem("bad", "maths", "c", "en", "q", {"answer": gold})
    good = [
        Problem(str(i), "maths", "c", "en", "q", {"answer": answer})
        for i, answer in enumerate(
            ("12", r"\text{(A)}", "Friday", "x=3, y=4", "12 apples", 7, "2 or 3")
        )
    ]
    with pytest.warns(UserWarning, match=r"1 of 8 problems.* of bad"):
        assert unpayable([*good, bad]) == [bad]


def test_golds_that_pay_nobody_are_told_of_before_training():
    rows = [{"question": "q", "family": "maths", "gold": {"answer": a}} for a in ("3", "1 2")]
    with pytest.warns(UserWarning, match="1 of 2 problems have a gold that pays no answer.*'1 2'"):
        problems_for(RunConfig(), rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        problems_for(RunConfig(), rows[:1])


def test_a_vote_is_for_a_value():
    same = [
        "12",
        r"\boxed{12}",
        "12.0",
        "the answer is 12.",
        "$12$",
        r"\frac{24}{2}",
        "24/2",
        "12 cm",
    ]
    assert {vote(final) for final in same} == {"12"}
    assert (
        len({*map(vote, ["12", "13", "-12", "1/2", "x", "yes", "1 or 2", "12e99999999", "1/0"])})
        == 9
    )
    problem = Problem("p", "maths", "c", "en", "q", {"answer": "12"})
    finals = ["13", "12", "13", r"\boxed{12}", "12.0"]
    texts = [f"<think> a </think> <answer> {final} </answer>" for final in finals]
    group = Group(problem, (1,), tuple(Completion((1,), (0.0,), t, False) for t in texts))
    assert grade([group]).cons_at_k == 1.0


def test_a_long_text_is_read_for_its_box_alone_and_in_no_time():
    long = "so it goes on " * 20_000
    begun = time.perf_counter()
    assert one_answer(long + r"\boxed{12}") == "12" and one_answer(long) is None
    assert one_answer(r"\boxed{" + "1" * 1001 + "}") is None
    for hostile in (
        r"\boxed{12}" * 20_000,
        "**" * 50_000,
        r"\boxed{" * 20_000,
        r"\text{cm " * 30_000,
    ):
        one_answer(hostile)
        one_answer(rf"\boxed{{{hostile[:990]}}}")
    assert time.perf_counter() - begun < 3
    assert verdict("12", r"\boxed{12}" * 500) is True


@pytest.mark.parametrize(
    "hostile",
    ["square " * 140, "per " * 240, "Aab" * 330, "a" * 990 + "=", "- " * 490, r"\text{" * 160,
     "cm," * 330, r"\text{cm}" * 110, "$" * 990, "=" * 990, r"\frac{1}{2}" * 90, "1 " * 490],
)  # fmt: skip
def test_no_text_takes_long_to_read(hostile):
    begun = time.perf_counter()
    for text in (hostile, f"12 {hostile}", f"{hostile} 12", rf"\boxed{{{hostile}}}"):
        with_unit(text[:990]), vote(text[:990])
    assert time.perf_counter() - begun < 1


def test_nobody_is_paid_for_an_unreadable_gold():
    text = "<think> a </think> <answer> 1 2 </answer>"
    problem = Problem("p", "maths", "c", "en", "q", {"answer": "1 2"})
    assert maths_reward(["q"], [text], problem=[problem]) == [UNCHECKED]


@pytest.mark.parametrize(
    ("said", "unit"),
    [
        ("60 miles/hour", "mi/h"), (r"\boxed{60 \text{ miles/hour}}", "mi/h"),
        ("60 km/hr", "km/h"), ("60 km/h", "km/h"), ("60 miles / hour", "mi/h"),
        ("$18/hour", "$/h"), ("12 ft/s", "ft/s"),
    ],
)  # fmt: skip
def test_a_slash_between_units_is_read(said, unit):
    """A rate may be written with any two units."""
    from r1lite.rewards.maths_text import with_unit

    number = "".join(sign for sign in said if sign.isdigit())
    assert with_unit(said) == (number, unit), said


def test_what_the_grammar_would_leave_out_is_no_answer():
    for gold, said in [
        ("52", "5'2\""), ("f(x)", "f'(x)"), ("3.14", r"3.14\ldots"),
        (r"\{1,2,9\}", r"\{1,2,\ldots,9\}"),
    ]:  # fmt: skip
        assert verdict(gold, said) is not True, (gold, said)


@pytest.mark.parametrize("said", ["12 " + "个人" * 60 + "!", "0" * 990 + "_x", " " * 900 + "x"])
def test_texts_that_can_be_read_in_many_ways_take_no_longer(said):
    begun = time.perf_counter()
    assert verdict("12 个人", said) is not True
    assert time.perf_counter() - begun < 3
