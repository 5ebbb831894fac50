"""Programs run, are judged fairly and leave nothing; the attacks are in deep/test_attacks.py."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from r1lite.lab.attacks import _family
from r1lite.records import UNCHECKED, Problem, UserError
from r1lite.rewards import code, code_reward
from r1lite.sandbox import Limits, Program, Sandbox, jail, pool

REPO = Path(__file__).resolve().parents[1]
QUICK = Limits(seconds=1.0)
WORKING = [name for name in jail.JAILS[:2] if not jail.missing(name)]


@pytest.fixture(scope="module", params=[*WORKING, "unsafe"])
def sandbox(request):
    with Sandbox(request.param) as found:
        yield found


def run(sandbox, language, source, *tests, limits=QUICK, **settings):
    (outcome,) = sandbox.run([Program(language, source, tests or ("",), **settings)], limits)
    assert outcome.lost is None, outcome.lost
    return outcome


def test_a_jail_works_here_or_says_what_is_missing():
    if sys.platform == "linux":
        assert WORKING, {name: jail.missing(name) for name in jail.JAILS[:2]}


def test_a_script_reads_and_writes(sandbox):
    first, second = run(sandbox, "python", "print(int(input()) * 2)", "4", "50").runs
    assert first.ok and (first.stdout, second.stdout) == ("8\n", "100\n")
    assert 0 < first.seconds < 1


def test_a_function_is_called(sandbox):
    source = (
        "class Solution:\n    def add(self, a, b):\n        print('noise')\n        return [a + b]"
    )
    (only,) = run(sandbox, "python", source, [1, 2], entry="Solution.add").runs
    assert only.ok and only.result == "[3]" and only.stdout == "noise\n"


def test_cpp_is_compiled_once_and_run(sandbox):
    source = "#include <iostream>\nint main() { int x; std::cin >> x; std::cout << x * 2; }"
    outcome = run(sandbox, "cpp", source, "4", "50")
    assert outcome.compiled.ok and [r.stdout for r in outcome.runs] == ["8", "100"]


@pytest.mark.parametrize(("language", "word"), [("python", "SyntaxError"), ("cpp", "error")])
def test_what_does_not_compile_says_why_and_is_not_run(sandbox, language, word):
    outcome = run(sandbox, language, "int main( {")
    assert not outcome.compiled.ok and word in outcome.compiled.stderr and not outcome.runs


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("while True: pass", "time"),
        ("import time; time.sleep(60)", "time"),
        ("while True: print('x' * 1000)", "output"),
    ],
)
def test_limits_end_a_program(sandbox, source, status):
    begun = time.monotonic()
    (only,) = run(sandbox, "python", source, limits=Limits(seconds=0.5)).runs
    assert only.status == status and only.exit is None and not only.ok
    assert time.monotonic() - begun < 3 and len(only.stdout) <= QUICK.output_bytes


def test_memory_is_limited(sandbox):
    (only,) = run(sandbox, "python", "x = bytearray(2**29)").runs
    assert not only.ok and "MemoryError" in only.stderr


def test_exit_codes_and_signals_are_told_apart(sandbox):
    for source, code_ in (
        ("import sys; print(1); sys.exit(3)", 3),
        ("print(1); raise SystemExit('no')", 1),
        ("print(1, flush=True); import os; os.abort()", -6),
        ("print(1); raise SystemExit", 0),
    ):
        (only,) = run(sandbox, "python", source).runs
        assert (only.exit, only.stdout) == (code_, "1\n"), source


def test_tests_after_a_crash_are_left_out_only_if_asked():
    with Sandbox("unsafe", 1) as sandbox:
        assert len(run(sandbox, "python", "1 / 0", "a", "b").runs) == 2
        assert len(run(sandbox, "python", "1 / 0", "a", "b", stop_early=True).runs) == 1


def test_nothing_stays_for_the_next_program(sandbox):
    run(sandbox, "python", "import builtins, json\nbuiltins.print = json.dumps = None")
    run(sandbox, "python", "open('left', 'w').write('x')\nimport os\nos.mkdir('folder')")
    (only,) = run(sandbox, "python", "import os\nprint(os.listdir('.'))").runs
    assert only.stdout == "[]\n"


@pytest.mark.parametrize("name", WORKING)  # without a jail nothing holds a daemon
def test_a_daemon_is_gone_when_its_program_has_ended(name):
    stays = (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        time.sleep(60)\n    os._exit(0)\nos.wait()\nprint('gone')"
    )
    counts = (
        "import os\ndef exists(p):\n    try: os.kill(p, 0)\n    except OSError: return False\n"
        "    return True\nprint([p for p in range(2, 400) if p != os.getpid() and exists(p)])"
    )
    with Sandbox(name, 1) as sandbox:
        assert run(sandbox, "python", stays).runs[0].stdout == "gone\n"
        assert run(sandbox, "python", counts).runs[0].stdout == "[]\n"


@pytest.mark.parametrize("name", WORKING)
def test_a_clone_in_tmp_works_too(name, tmp_path, monkeypatch):
    """Programs have a /tmp of their own, which would hide a worker that lies in ours."""
    copy = Path(shutil.copy(jail.WORKER, tempfile.mkdtemp(dir="/tmp", prefix="clone-")))
    monkeypatch.setattr(jail, "WORKER", copy)
    with Sandbox(name, 1) as sandbox:
        assert run(sandbox, "python", "import os\nprint(os.listdir('.'))").runs[0].stdout == "[]\n"
    shutil.rmtree(copy.parent)


def test_many_programs_come_back_in_order():
    with Sandbox("auto") as sandbox:
        programs = [Program("python", f"print({i})") for i in range(40)]
        assert [o.runs[0].stdout for o in sandbox.run(programs)] == [f"{i}\n" for i in range(40)]


@pytest.mark.parametrize("name", WORKING)
def test_a_jail_outlives_the_thread_that_started_it(name):
    """The kernel's "die with the parent" means the parent's thread: a pool's ends soon."""
    with Sandbox(name, 1) as sandbox:
        sandbox._free.get().end()
        sandbox._free.put(None)
        run(sandbox, "python", "print(1)")  # in a thread of its own, which then ends
        worker = sandbox._free.get()
        sandbox._free.put(worker)
        time.sleep(0.2)
        assert worker.process.poll() is None
        assert run(sandbox, "python", "print(2)").runs[0].stdout == "2\n"


@pytest.mark.parametrize("name", WORKING)
def test_a_jail_ends_with_the_process_that_started_it(name):
    code = (
        "import os, time\nfrom r1lite.sandbox import *\n"
        f"s = Sandbox({name!r}, 1)\ns.run([Program('python', 'print(1)')])\n"
        "print(*s.pids(), flush=True)\nos.kill(os.getpid(), 9)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO, check=False
    )
    assert killed.returncode == -9 and _ended([int(killed.stdout)])


def _runs(pid: int) -> bool:
    """A dead process that nobody has buried counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _ended(pids) -> bool:
    """What is killed needs a moment to be gone."""
    end = time.monotonic() + 20
    while (left := any(map(_runs, pids))) and time.monotonic() < end:
        time.sleep(0.05)
    return not left


def test_a_lost_jail_is_said_and_replaced():
    with Sandbox("auto", 1) as sandbox:
        worker = sandbox._free.get()
        sandbox._free.put(worker)
        worker.end()
        lost, found = sandbox.run([Program("python", "print(1)")] * 2)
        assert lost.lost and not lost.runs
        assert found.runs[0].stdout == "1\n"


@pytest.mark.parametrize("name", [*WORKING, "unsafe"])
def test_closing_leaves_no_process_no_folder_and_no_open_file(name, tmp_path, monkeypatch):
    def state():
        return len(os.listdir("/proc/self/fd")), list(tmp_path.iterdir())

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = state()
    with Sandbox(name) as sandbox:
        sandbox.run([Program("python", f"print({i})") for i in range(8)])
        family = _family(sandbox.pids())
        if name != "unsafe":
            assert len(family) > len(sandbox.pids()), "the jail's process 1 is not seen"
        assert all(map(_runs, family)), family
        assert bool(state()[1]) == (name == "unsafe"), "a jail needs no folder of this machine"
    assert _ended(family) and state() == before


@pytest.mark.parametrize("name", ["auto", "unsafe"])
def test_a_forked_child_has_jails_of_its_own(name):
    """With its parent's, each would get answers of the other; what it ends must be its own."""
    with Sandbox(name, 1) as sandbox:
        run(sandbox, "python", "print(1)")
        (parents,), held = sandbox.pids(), sandbox._free.get()  # as if it were at work
        sandbox._free.put(held)
        read, write = os.pipe()
        if not os.fork():
            code_ = 1
            try:
                assert sandbox.pids() == []
                assert run(sandbox, "python", "print(2)").runs[0].stdout == "2\n"
                os.write(write, str(sandbox.pids()[0]).encode())
                sandbox.close()
                code_ = 0
            finally:
                os._exit(code_)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
        assert _ended([int(os.read(read, 20))]) and _runs(parents)
        assert sandbox.pids() == [parents] and (not held.scratch or Path(held.scratch).exists())
        assert run(sandbox, "python", "print(3)").runs[0].stdout == "3\n"
    os.close(read), os.close(write)


def test_the_rewards_of_a_forked_child_are_its_own(monkeypatch):
    """Both grade at the same time, in jails that they do not share."""
    assert grade_run("print(int(input()) * 2)", DOUBLE) == 1.0
    pids = code._sandbox("auto").pids()
    child = os.fork()
    answers = ["print(int(input()) * 2)", "print(7)"] * 10
    values = [1.0, 0.0] * 10 if child else [0.0, 1.0] * 10
    found = [
        grade_run(answer, DOUBLE) for answer in (answers if child else answers[1:] + answers[:1])
    ]
    if not child:
        os._exit(found != values or code._sandbox("auto").pids() == pids)
    assert found == values and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("name", ["auto", "unsafe"])
def test_a_forked_child_that_ends_takes_nothing_from_its_parent(name):
    """It runs whatever its parent has registered for its own end."""
    code_ = (
        "import os, sys, pathlib\nfrom r1lite.rewards import code, maths\n"
        "from r1lite.sandbox import Program\n"
        f"box = code._sandbox('{name}')\nask = lambda: box.run([Program('python', 'print(1)')])\n"
        "ask()\nassert maths.same_value('7', '7') is True\n"
        "state = lambda: (box.pids(), [w.pid for w in maths._workers().queue if w],\n"
        "    [pathlib.Path(w.scratch or '.').exists() for w in box._free.queue if w])\n"
        "before = state()\nif os.fork() == 0: sys.exit(0)\nassert os.wait()[1] == 0\n"
        "assert state() == before and all(before[2]), (before, state())\n"
        "assert not ask()[0].lost and maths.same_value('7', '8') is False\n"
    )
    subprocess.run([sys.executable, "-c", code_], cwd=REPO, check=True, timeout=90)


def test_what_is_unfinished_when_time_is_up_is_lost_and_nothing_else():
    programs = [Program("python", "print(1)"), *[Program("python", "while True: pass")] * 6]
    with Sandbox("auto") as sandbox:
        run(sandbox, "python", "print(0)")
        begun = time.monotonic()
        first, *others = sandbox.run(programs, QUICK, seconds=1.7)
        assert time.monotonic() - begun < 3
        assert first.runs[0].stdout == "1\n" and [o.lost for o in others].count(None) in (1, 2)
        assert {o.runs[0].status for o in others if not o.lost} == {"time"}
        assert run(sandbox, "python", "print(2)").runs[0].stdout == "2\n"


@pytest.mark.parametrize("kind", ["mkdir", "mkfifo"])
def test_what_a_program_makes_in_its_folder_costs_nobody_but_itself(sandbox, kind):
    source = f"import os\nos.{{}}('{kind}')\nfor n in ('stdin', 'stdout', 'program.cpp'):\n"
    begun = time.monotonic()
    runs = run(sandbox, "python", source.replace("{}", kind) + f"    os.{kind}(n)", "a", "b").runs
    assert [r.exit for r in runs] == [0, 1] and "FileExistsError" in runs[1].stderr
    assert time.monotonic() - begun < QUICK.seconds


SCAN = (  # every mapped byte near Python's own and near the heap, through a pipe
    "import ctypes, os\nlibc = ctypes.CDLL(None)\nlibc.sbrk.restype = ctypes.c_void_p\n"
    "libc.write.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]\n"
    "read, write = os.pipe()\nplaces = [libc.sbrk(0), id(object()), id([]), id(bytearray(2**20))]\n"
    "found, size = bytearray(), 65536\nfor at in sorted({p // size * size + i * size "
    "for p in places for i in range(-200, 60)}):\n"
    "    if libc.write(write, at, size) > 0: found += os.read(read, size)\n"
    "    else: found += b' '\n"
    "print(len(found) > 2**20, b'of-another'.upper() in found, b'of-the-next'.upper() in found)\n"
    "print(b'my own'.upper() in found)"
)


def test_nothing_of_another_program_is_in_its_memory(sandbox):
    """Source, input and output of a sibling, and the tests to come: a fork inherits memory."""
    honest = "x = input()\nprint('OF-ANO' 'THER', x)  # OF-ANOTHER" + " and more" * 500
    for _ in range(3):
        run(sandbox, "python", honest, "OF-ANOTHER", "OF-ANOTHER" * 1000)
        source = "def f(a):\n    return [a, 'OF-ANO' 'THER']"
        run(sandbox, "python", source, ["OF-ANOTHER"], entry="f")
    runs = run(sandbox, "python", SCAN + "  # MY OWN", "1", "OF-THE-NEXT").runs
    assert [r.stdout for r in runs] == ["True False False\nTrue\n"] * 2, runs[0].stderr


def test_it_refuses_where_no_jail_works(monkeypatch):
    monkeypatch.setattr(pool, "missing", lambda name: f"{name} is not there")
    with pytest.raises(UserError, match="bubblewrap is not there.*namespaces is not there") as said:
        Sandbox("auto")
    assert 'jail="unsafe"' in str(said.value)


def test_bad_settings_are_named():
    with pytest.raises(UserError, match="'ruby'.*python and cpp"):
        Program("ruby", "")
    with pytest.raises(UserError, match="entry 'f' of a cpp"):
        Program("cpp", "", entry="f")
    with pytest.raises(UserError, match="'docker' is unknown.*bubblewrap"):
        Sandbox("docker")


# --- the reward ---


def problem(tests, **gold):
    gold = {"tests": [{"input": a, "output": b} for a, b in tests]} | gold
    return Problem("p", "code", "c", "en", "", gold)


def grade_run(source, made):
    text = f"<think> t </think> <answer> {source} </answer>"
    (found,) = code_reward(prompts=[""], completions=[text], problem=[made])
    return found


DOUBLE = problem([("1", "2\n"), ("4", "8")])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("print(int(input()) * 2)", 1.0),
        ("```python\nprint(int(input()) * 2)\n```", 1.0),
        ("print(int(input()) * 2, end=' \\n\\n')", 1.0),
        ("print(2)", 0.0),
        ("print(int(input()) * 2); raise SystemExit(1)", 0.0),
        ("print(int(input()) * 2); 1 / 0", 0.0),
        ("print(int(input()) * 2)\nprint('more')", 0.0),
        ("print('0')\nprint(int(input()) * 2)", 0.0),
        ("print(", 0.0),
        ("pass", 0.0),
    ],
)
def test_a_program_is_right_if_all_its_output_is(source, expected):
    assert grade_run(source, DOUBLE) == expected


def test_a_prefix_of_the_output_is_not_enough():
    """A zip over lines of output and of what was expected pays "1" for "1 2 3"."""
    made = problem([("", "1\n2\n3")])
    assert grade_run("print(1)", made) == 0.0 and grade_run("print('1\\n2\\n3')", made) == 1.0
    assert grade_run("print('1\\n2\\n3\\n4')", made) == 0.0


@pytest.mark.parametrize("between", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\r", " "])
def test_a_line_ends_where_every_reader_sees_it(between):
    made = problem([("", "1\n2")])
    assert grade_run(f"print('1' + {between!r} + '2')", made) == 0.0
    assert grade_run(f"print('1\\n2' + {between!r})", made) == float(between in "\r ")
    assert grade_run("print('1', '2 ', sep='\\r\\n', end='\\r\\n\\n')", made) == 1.0


@pytest.mark.filterwarnings("error")
def test_a_number_too_large_for_a_float_is_wrong():
    for number in ("10**400", "-10**400", "[10**400]", "float('inf')", "10**5000"):
        for gold in (0.5, [0.5], 1e308):
            assert (
                grade_run(f"def f():\n    return {number}", problem([([], gold)], entry="f")) == 0.0
            )


def test_a_few_endless_programs_do_not_void_the_others(monkeypatch):
    """What has been graded in time counts; the jails are free for the next rollout."""
    monkeypatch.setattr(code, "TIME", 3.5)
    text = "<think> t </think> <answer> {} </answer>"
    texts = [text.format("print(int(input()) * 2)"), *[text.format("while True: pass")] * 30]
    grade_run("pass", DOUBLE)  # the jails are up
    begun = time.monotonic()
    right, *others = code_reward(prompts=[""], completions=texts, problem=[DOUBLE] * 31)
    assert right == 1.0 and {0.0, UNCHECKED} == set(others) and time.monotonic() - begun < 6
    assert grade_run("print(int(input()) * 2)", DOUBLE) == 1.0


def test_partial_credit_is_the_share_of_tests():
    made = problem([("1", "1"), ("2", "2"), ("3", "9"), ("4", "16")], credit="partial")
    assert grade_run("print(int(input()))", made) == 0.5
    assert grade_run("x = int(input())\nif x > 1: 1 / 0\nprint(x)", made) == 0.25


@pytest.mark.parametrize(
    ("returned", "expected", "right"),
    [
        ("1", 1, True),
        ("True", 1, False),
        ("1.0", 1, True),
        ("0.1 + 0.2", 0.3, True),
        ("(1, [2])", [1, [2]], True),
        ("[1]", [1, 2], False),
        ("[1, 2, 3]", [1, 2], False),
        ("{'a': None}", {"a": None}, True),
        ("float('nan')", 1, False),
        ("object()", 1, False),
        ("'1'", 1, False),
    ],
)
def test_values_of_functions_are_compared_as_json(returned, expected, right):
    made = problem([([], expected)], entry="f")
    assert grade_run(f"def f():\n    return {returned}", made) == float(right)


def test_cpp_programs_are_worth_the_same():
    source = '#include <cstdio>\nint main() { int x; scanf("%d", &x); printf("%d\\n", 2 * x); }'
    text = f"```cpp\n{source}\n```"
    assert grade_run(text, problem([("1", "2"), ("4", "8")], language="cpp")) == 1.0
    assert grade_run("int main() { return 0; }", problem([("1", "2")], language="cpp")) == 0.0


def test_a_function_in_cpp_is_called_by_its_driver():
    """As in LeetCode: the answer is the function, the problem brings the main() that feeds it."""
    driver = (
        "\n#include <iostream>\n#include <vector>\nint main() { std::vector<int> xs; int x;\n"
        "while (std::cin >> x) xs.push_back(x); std::cout << total(xs) << std::endl; }"
    )
    right = (
        "#include <vector>\nint total(std::vector<int>& v) { int s = 0; for (int x : v) s += x; "
    )
    tests = [("1 2 3", "6"), ("", "0"), ("-5 5 7", "7"), ("1000000 1", "1000001")]
    made = problem(tests, language="cpp", driver=driver)
    assert grade_run(f"```cpp\n{right}return s; }}\n```", made) == 1.0
    assert grade_run(f"{right}return s + v.empty(); }}", made) == 0.0
    shared = problem(tests, language="cpp", driver=driver, credit="partial")
    assert grade_run(f"{right}return s + v.empty(); }}", shared) == 0.75
    wrong = "<think> t </think> <answer> int sum(int a) { return a; } </answer>"
    (outcome,) = code.run_answers([made], [wrong])
    assert code.grade_run(made, outcome) == 0.0 and not outcome.runs
    assert str(outcome).startswith("compiler: exit 1. ") and "total" in str(outcome)


def test_an_outcome_tells_a_reader_what_went_wrong():
    def said(source, *tests):
        return str(run(sandbox, "python", source, *tests))

    with Sandbox("unsafe", 1) as sandbox:
        assert said("print(1)") == "compiled, and 1 tests ended without an error"
        assert said("print(1 / int(input()))", "1", "0").startswith("test 2: exit 1. Traceback")
        assert said("1 +").startswith("compiler: exit 1.") and "SyntaxError" in said("1 +")
        assert said("while True: pass") == "test 1: limit of time. "
    assert str(pool.Outcome(lost="the jail has ended")) == "lost: the jail has ended"


def test_a_limit_on_files_leaves_room_for_output(sandbox):
    small = Limits(seconds=1.0, file_bytes=0, output_bytes=1000)
    (only,) = run(sandbox, "python", "print('x' * 500)", limits=small).runs
    assert only.ok and len(only.stdout) == 501


def test_what_cannot_be_known_is_unchecked(monkeypatch):
    assert grade_run("print(1)", problem([])) is None
    lost = pool.Outcome(lost="the jail has ended")
    monkeypatch.setattr(Sandbox, "run", lambda self, programs, *more: [lost for _ in programs])
    assert grade_run("print(1)", DOUBLE) is UNCHECKED


def test_an_answer_outside_the_format_is_not_run(monkeypatch):
    monkeypatch.setattr(Sandbox, "run", lambda self, programs, *more: [] if not programs else 1 / 0)
    text = "<answer> print(int(input()) * 2) </answer>"
    assert code_reward(prompts=[""], completions=[text], problem=[DOUBLE]) == [0.0]


def test_unknown_limits_are_named():
    with pytest.raises(UserError, match="hours"):
        grade_run("print(1)", problem([("", "1")], limits={"hours": 1}))


def test_the_sandbox_agrees_with_the_checker_of_the_tiny_world():
    from r1lite.world import check_answer, make_problems

    problems = make_problems("programs", "train", 12)
    lines = ["return x * 2 + 3", "return x * x + 1", "return x", "return 9 - x"]
    lines += [f"return {p.cluster}" for p in problems]
    for line in lines:
        texts = [f"<think> t </think> <answer> {line} </answer>"] * len(problems)
        found = code_reward(prompts=texts, completions=texts, problem=problems)
        assert found == [float(check_answer(p, line)) for p in problems], line


def test_the_jail_of_the_rewards_can_be_chosen(monkeypatch):
    monkeypatch.setattr(code, "_CHOSEN", {"jail": "auto"})
    code.use_sandbox("unsafe")
    assert grade_run("print(int(input()) * 2)", DOUBLE) == 1.0
    assert code._sandbox("unsafe").jail == "unsafe"
    assert os.environ.get("HOME")  # only a jailed program sees no environment
