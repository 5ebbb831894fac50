"""Programs as people and models write them: what they take for granted is there."""

import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pytest

from r1lite import __main__ as command_line
from r1lite.lab import attacks
from r1lite.records import Problem, is_unchecked
from r1lite.rewards import code, code_reward
from r1lite.sandbox import JAILS, Limits, Program, Sandbox, jail

REPO = Path(__file__).resolve().parents[1]
WORKING = [name for name in JAILS[:2] if not jail.missing(name)]


@pytest.fixture(scope="module", params=[*WORKING, "unsafe"])
def sandbox(request):
    with Sandbox(request.param, 1) as found:
        yield found


def run(sandbox, source, test="", limits=Limits(), **settings):  # noqa: B008
    (outcome,) = sandbox.run([Program("python", source, (test,), **settings)], limits)
    assert outcome.lost is None, outcome.lost
    return outcome.runs[0] if outcome.runs else outcome.compiled


def grade_run(answer, output="7", language="python", **gold):
    gold = {"tests": [{"input": "3", "output": output}], "language": language} | gold
    text = f"<think> t </think> <answer> {answer} </answer>"
    problem = Problem("p", "code", "c", "en", "", gold)
    return code_reward(prompts=[""], completions=[text], problem=[problem])[0]


@pytest.mark.parametrize(
    ("source", "exit_", "stdout"),
    [
        ("print(1)\nexit()\nprint(2)", 0, "1\n"),
        ("def f():\n    quit(3)\nprint(1)\nf()", 3, "1\n"),
        ("print(1)\nif True:\n    exit('no')", 1, "1\n"),
        ("exit = print\nexit(1)", 0, "1\n"),
    ],
)
def test_exit_and_quit_end_a_script(sandbox, source, exit_, stdout):
    found = run(sandbox, source)
    assert (found.exit, found.stdout) == (exit_, stdout), found.stderr


@pytest.mark.parametrize(
    "read",
    [
        "open('/dev/stdin').read()",
        "open('/dev/stdin', 'rb').read().decode()",
        "''.join(open('/dev/stdin'))",
        "__import__('pathlib').Path('/dev/stdin').read_text()",
        "__import__('io').open('/dev/stdin', encoding='utf-8').read()",
        "input() + '\\n' + ''.join(__import__('fileinput').input('-'))",
    ],
)
def test_standard_input_has_a_name(sandbox, read):
    found = run(sandbox, f"print({read}, end='')", "a b\nc")
    assert found.stdout == "a b\nc", found.stderr
    assert run(sandbox, "open('/dev/stdout', 'w').write('x')").stdout == "x"
    assert run(sandbox, "open('/dev/stderr', 'w').write('x')").stderr == "x"


def test_standard_input_can_be_closed_and_other_files_are_opened_as_ever(sandbox):
    source = (
        "with open('/dev/stdin') as f: n = int(f.readline())\n"
        "open(file='a', mode='w').write(str(n))\nprint(open('a').read(), input.__name__)\n"
        "try: open([])\nexcept TypeError: print('list')\n"
        "try: open('/dev/stdin/more')\nexcept OSError: print('no')"
    )
    assert run(sandbox, source, "4").stdout == "4 input\nlist\nno\n"


DEEP = (
    "import sys, threading\nsys.setrecursionlimit(10**7)\nthreading.stack_size({})\n"
    "def depth(n): return 0 if n == 0 else 1 + max(depth(n - 1), 0)\n"
    "def main(): {}print(depth(int(input())))\n"
)


@pytest.mark.parametrize("size", ["10**8", "2**27", "2**28"])
@pytest.mark.parametrize("end", ["t = threading.Thread(target=main)\nt.start()\nt.join()",
                                 "threading.Thread(target=main).start()"])  # fmt: skip
def test_deep_recursion_in_a_thread_with_a_large_stack(sandbox, size, end):
    found = run(sandbox, DEEP.format(size, "") + end, "100000")
    assert found.stdout == "100000\n", found.stderr


def test_a_large_stack_leaves_room_for_data(sandbox):
    source = DEEP.format("2**27", "x = bytearray(200 * 2**20); ")
    found = run(sandbox, source + "threading.Thread(target=main).start()", "1000")
    assert found.stdout == "1000\n", found.stderr


def test_what_a_script_registers_for_its_end_is_done(sandbox):
    """Many write all their output there; after exit() and after an error, too."""
    begin = "import atexit, io, os, sys\nsys.stdout = io.StringIO()\n"
    begin += "atexit.register(lambda: os.write(1, sys.stdout.getvalue().encode()))\nprint(7)\n"
    for end, code_ in (("", 0), ("exit(3)", 3), ("1 / 0", 1)):
        found = run(sandbox, begin + end)
        assert (found.stdout, found.exit) == ("7\n", code_), found.stderr


PRELUDE = [  # an expression, and what it is worth, after LeetCode's imports
    ("bisect_left(xs, 2) + bisect.bisect_left(xs, 2)", 2),
    ("heapq.nlargest(1, xs) + nsmallest(1, xs)", [3, 1]),
    ("deque(xs).pop() + Counter(xs)[1] + defaultdict(int)[5] + len(OrderedDict())", 4),
    ("collections.Counter(xs).most_common(1)[0][1]", 1),
    ("[inf > math.inf, gcd(4, 6), math.gcd(4, 6), sqrt(4), floor(1.5), pow(2, 5, 7)]",
     [False, 2, 2, 2.0, 1, 4]),
    ("[*accumulate(xs)] + [*itertools.chain(xs)] + [*map(list, pairwise(xs))]",
     [1, 3, 6, 1, 2, 3, [1, 2], [2, 3]]),
    ("reduce(operator.add, xs) + functools.reduce(add, xs)", 12),
    ("cache(abs)(-3) + lru_cache(None)(sum)((1, 2)) + cmp_to_key(max)(4).obj", 10),
    ("sys.maxsize > maxsize - 1", True),
    ("[re.sub('a', '', 'ab'), string.ascii_lowercase[0], ascii_lowercase[1]]", ["b", "a", "b"]),
    ("deepcopy(xs) + copy.copy(xs)", [1, 2, 3, 1, 2, 3]),
    ("random.randint(1, 1) + randint(1, 1) + mean(xs) + len(json.dumps([]))", 6),
    ("datetime.date(2020, 1, 2).day + timedelta(3).days + len(StringIO('ab').read())", 7),
    ("max(xs) + min(xs) + sum(xs) + len(open('/dev/stdin').read())", 10),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "worth"), PRELUDE, ids=lambda x: str(x)[:20])
def test_a_called_function_has_leetcodes_imports(sandbox, expression, worth):
    source = f"class Solution:\n    def f(self, xs: List[int]) -> int:\n        return {expression}"
    found = run(sandbox, source, [[1, 2, 3]], entry="Solution.f")
    assert found.ok and code._same_value(worth, found), (found.result, found.stderr)


@pytest.mark.parametrize(
    "signature",
    ["xs: List[int], k: Optional[TreeNode] = None", "xs: 'Any', k: Union[Dict[str, Set], None] = 1",
     "xs: Optional['Node'], k: NestedInteger = None", "xs: list[int | None], k: Master = 1"],
)  # fmt: skip
def test_names_in_a_signature_do_no_harm(sandbox, signature):
    source = f"def f({signature}) -> Whatever:\n    best: Deque[Thing] = xs\n    return best"
    assert run(sandbox, source, [[1]], entry="f").result == "[1]"


def test_a_script_has_no_imports_but_its_own(sandbox):
    for name in ("List", "deque", "heapq", "inf", "math"):
        assert "NameError" in run(sandbox, f"print({name})").stderr
    assert "NameError" in run(sandbox, "def f(x: List[int]): pass").stderr
    assert run(sandbox, "import sys; print(sys.getrecursionlimit())").stdout == "1000\n"


def test_own_names_of_a_called_program_come_before_leetcodes(sandbox):
    source = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass TreeNode:\n    val: int = 7\n"
        "def gcd(a, b): return TreeNode().val\n"
        "def depth(n): return n and 1 + depth(n - 1)\n"
        "def f(n):\n    return [gcd(1, 2), depth(n)]"
    )
    assert run(sandbox, source, [9000], entry="f").result == "[7, 9000]"


FENCES = [
    "```python\nprint(7)\n```",
    "~~~python\nprint(7)\n~~~",
    "~~~\nif True:\n    print(7)\n~~~",
    "1. so:\n\n   ```python\n   if True:\n       print(7)\n   ```\n   done",
    "- ```python\n  x = 7\n\n  print(x)\n  ```",
    "\t~~~py\n\tx = 7\n\tprint(x)\n\t~~~",
    "```python\nprint(8)\n```\nno, rather\n~~~python\nprint(7)\n~~~",
    "~~~\nprint(8)\n~~~\nno, rather\n  ```\n  print(7)\n  ```",
    "~~~python\nprint('```' and 7)\n~~~",
    "```python\nprint('~~~' and 7)\n```",
    "    print(7)".strip(),
]


@pytest.mark.parametrize("answer", FENCES)
def test_a_program_is_found_in_its_fence(answer):
    assert grade_run(answer) == 1.0


def test_text_within_a_program_keeps_its_blanks():
    """Only what all lines share is the fence's."""
    answer = "```python\nprint('''a\n    b\n  c''')\n```"
    assert grade_run(answer, output="a\n    b\n  c") == 1.0
    assert grade_run(answer, output="a\n  b\nc") == 0.0


@pytest.mark.parametrize(
    ("output", "printed", "right"),
    [(7, "7", True), (7, "7\\n", True), (7, "7.0", False), (7, "8", False), (0.5, "0.5", True),
     (-3, "-3", True), (10**30, str(10**30), True), (0, "", False), ("7", "7", True)],
)  # fmt: skip
def test_a_number_that_is_expected_counts_as_its_text(output, printed, right):
    assert grade_run(f"print('{printed}')", output=output) == float(right)


# --- without a compiler ---


@pytest.fixture
def no_compiler(monkeypatch):
    """As on a machine without g++; what is known of the compiler is looked up anew."""
    which = jail.shutil.which
    monkeypatch.setattr(
        jail.shutil, "which", lambda name, **at: None if name == "g++" else which(name, **at)
    )
    jail.no_compiler.cache_clear()
    yield
    jail.no_compiler.cache_clear()


CPP = '#include <cstdio>\nint main() { puts("7"); }'


def test_without_a_compiler_answers_in_cpp_are_not_checked_and_that_is_said_once(no_compiler):
    with pytest.warns(UserWarning, match="g.. not found.*not checked.*apt install g") as said:
        values = [grade_run(CPP, language="cpp") for _ in range(3)]
        values += [grade_run("int main( {", language="cpp")]
    assert all(map(is_unchecked, values)) and len(said) == 1
    assert grade_run("print(7)") == 1.0 and grade_run("print(8)") == 0.0
    assert grade_run("", language="cpp") == 0.0, "no answer needs no compiler"


def test_programs_in_python_need_no_compiler_and_hear_of_none(no_compiler):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert grade_run("print(7)") == 1.0


def test_with_a_compiler_nothing_is_said():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not jail.no_compiler() and grade_run(CPP, language="cpp") == 1.0


@pytest.mark.parametrize("tool", jail.COMPILER[:3])
def test_every_part_of_the_compiler_is_looked_for(tool, tmp_path, monkeypatch):
    which = jail.shutil.which
    monkeypatch.setattr(
        jail.shutil, "which", lambda name, **at: None if name == tool else which(name, **at)
    )
    with pytest.warns(UserWarning):
        assert jail.no_compiler.__wrapped__().startswith(f"{tool} not found")


def test_attacks_that_need_a_compiler_are_not_run_rather_than_contained(
    no_compiler, monkeypatch, capsys
):
    """The verb names them, and counts the others alone."""
    names = ["cpp-daemon", "exit-zero", "cpp-socket"]
    with pytest.warns(UserWarning):
        reports = list(attacks.run_attacks(WORKING[0], names))
    found = {r.name: (r.ran, r.stopped_by.split(":")[0], r.faults) for r in reports}
    assert found["cpp-daemon"] == found["cpp-socket"] == (False, "not run", ())
    assert found["exit-zero"][0] and "not run" not in found["exit-zero"][1]
    assert "| not run: g++" in attacks.table({"one": reports})
    command_line.main(["sandbox", "--attack", "--jail", WORKING[0], "--only", *names])
    said = capsys.readouterr().out
    assert "; not run, so not known: cpp-daemon, cpp-socket" in said
    assert "1 attacks contained in each of" in said and "3 attacks" not in said


# --- nothing stays ---

ENDS = {
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "told to end": "os.kill(os.getpid(), signal.SIGTERM)",
    "its end": "",
    "killed at work": "threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGKILL)).start()\n"
    "box.run([Program('python', 'while True: pass')], Limits(seconds=0.5))",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("name", [*WORKING, "unsafe"])
def test_no_folder_stays_however_the_parent_ends(name, end, tmp_path):
    source = (
        "import os, signal, threading\nfrom r1lite.sandbox import Limits, Program, Sandbox\n"
        f"box = Sandbox({name!r}, 1)\nprint(box.run([Program('python', 'print(7)')]), flush=True)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", source + end], capture_output=True, text=True, cwd=REPO,
        env=os.environ | {"TMPDIR": str(tmp_path)}, check=False,
    )  # fmt: skip
    assert r"stdout='7\n'" in ran.stdout, ran.stderr
    until = time.monotonic() + 10
    while (left := list(tmp_path.iterdir())) and time.monotonic() < until:
        time.sleep(0.05)  # what was under way has its time limit
    assert not left


def test_a_jail_makes_no_folder_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in WORKING:
        with Sandbox(name) as sandbox:
            outcomes = sandbox.run([Program("python", "print(1)")] * 3)
            assert [o.runs[0].stdout for o in outcomes] == ["1\n"] * 3
            assert not list(tmp_path.iterdir())
