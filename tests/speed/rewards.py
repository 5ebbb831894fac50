"""How many answers a second does each reward read here? Of maths, a dozen again and again.

Programs are run in the sandbox: those of the tiny world in Python, and one in C++ with another
number in each copy, whose compiling is counted apart.
"""

import time
from collections.abc import Mapping
from statistics import median

from r1lite.config import repo_path
from r1lite.records import Problem
from r1lite.rewards import (
    accuracy_reward,
    code_reward,
    format_reward,
    language_reward,
    maths_reward,
)
from r1lite.runlog import markdown_table, read_jsonl
from r1lite.sandbox import Program, Sandbox
from r1lite.stages.documents import document
from r1lite.stages.held_out import held_out
from r1lite.world import FAMILIES

RECORDED = repo_path("data/recorded")
PAIRS = (
    ("12", "12"), ("12", r"so it is \boxed{12} ."), ("12", "13"), ("1/2", "0.5"),
    (r"\frac{3}{4}", r"\boxed{\frac{6}{8}}"), ("(1, 2]", "(1, 2)"), (r"\{1, 2\}", r"\{2, 1\}"),
    ("x = 3", "3"), ("1 < x < 2", "(1, 2)"), (r"\sqrt{8}", r"2 \sqrt{2}"),
    ("x^2 + 2x + 1", "(x + 1)^2"), ("1000", "1 or 1,000"),
)  # fmt: skip
CPP = "#include <iostream>\nint main() {{ int x; std::cin >> x; std::cout << x + {}; }}"


def answers(family: str, n: int = 400) -> list[tuple[Problem, str]]:
    """Recorded answers with their problems; without recordings, texts that the base reads."""
    problems = {p.problem_id: p for p in held_out(family, 80)}
    rows = [r for path in sorted(RECORDED.glob("*/samples.jsonl")) for r in read_jsonl(path)]
    known = [r for r in rows if r["problem_id"] in problems]
    if known:
        return [(problems[r["problem_id"]], r["answer"]) for r in known[:: len(known) // n + 1]]
    texts = [document(0, i).split(" Assistant : ")[-1] for i in range(n)]
    return [(p, text) for text, p in zip(texts, list(problems.values()) * n)]


def bench_rewards(rounds: int = 5) -> dict[str, float]:
    """Reward -> answers per second, the median over rounds; the first round warms up."""
    read = {family: answers(family) for family in FAMILIES}
    golds = [Problem("p", "maths", "c", "en", "q", {"answer": gold}) for gold, _ in PAIRS]
    texts = [f"<think> a </think> <answer> {text} </answer>" for _, text in PAIRS]
    work = {"format": (format_reward, read["countdown"])}
    work |= {f"accuracy, {family}": (accuracy_reward, rows) for family, rows in read.items()}
    work["language"] = (language_reward, read["countdown"])
    work["code, Python"] = (code_reward, read["programs"])
    work["maths"] = (maths_reward, list(zip(golds, texts)) * 20)
    found: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds + 1):
        for name, (reward, rows) in work.items():
            problems, texts = map(list, zip(*rows))
            begun = time.perf_counter()
            reward([p.question for p in problems], texts, problem=problems)
            found[name].append(len(rows) / (time.perf_counter() - begun))
    return {name: median(rates[1:]) for name, rates in found.items()} | bench_cpp(rounds)


def bench_cpp(rounds: int, n: int = 16) -> dict[str, float]:
    """C++ programs with four tests each: per second, compiling them and running them."""
    programs = [Program("cpp", CPP.format(i), ("1", "2", "3", "4")) for i in range(n)]
    compiling, running = [], []
    with Sandbox() as sandbox:
        for _ in range(rounds):
            begun = time.perf_counter()
            outcomes = sandbox.run(programs)
            whole = time.perf_counter() - begun
            compiled = sum(outcome.compiled.seconds for outcome in outcomes)
            share = compiled / (compiled + sum(r.seconds for o in outcomes for r in o.runs))
            compiling.append(n / (whole * share))
            running.append(n / (whole * (1 - share)))
    return {"code, C++: compiling": median(compiling), "code, C++: running": median(running)}


def table(found: Mapping[str, float]) -> str:
    """Markdown: answers per second, and what a rollout of 256 answers costs."""
    rows = [(name, f"{n:,.0f}", f"{256e3 / n:,.1f} ms") for name, n in found.items()]
    return markdown_table(["reward", "answers a second", "256 answers"], rows)
