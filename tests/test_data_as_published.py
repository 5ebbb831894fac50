"""Data as they are published: odd cells, encodings, packed files, damaged logs, long prompts."""

import gzip
import json
import math
import os
import socket
import time
from collections import Counter
from dataclasses import asdict

import pandas
import pyarrow.parquet
import pytest
from conftest import VARIED
from test_datasets import complaint

from r1lite.config import SftConfig, preset
from r1lite.learn import rollout, train, train_sft
from r1lite.learn.rollout import draw_problems, fitting
from r1lite.learn.sft import read_examples
from r1lite.prompt import render
from r1lite.records import Problem
from r1lite.runlog import append_jsonl, read_jsonl, truncate_jsonl
from r1lite.world import FAMILIES, as_problems, make_problems, read_problems
from r1lite.world.checkers import CHECKERS, GOLD_LIKE

ROWS = [
    {"question": "What is 3 + 4?", "answer": "It is 7.\n#### 7"},
    {"question": "¿Cuánto es 12 × 2?", "answer": "Son 24.\n#### 24"},
    {"question": "二 加 三 ?", "answer": "五\n#### 5"},
]
OWN = {
    "problem_id": "a/1", "family": "countdown", "cluster": "3-4-6", "language": "en",
    "question": "make 21 from 3 4 6 .", "gold": {"numbers": [3, 4, 6], "target": 21},
}  # fmt: skip


def lines(rows) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def written(path, rows):
    path.write_text(lines(rows), encoding="utf-8")
    return path


# 1. cells


NO_GOLDS = [None, math.nan, math.inf, "", "  ", [7], {"value": 7}, True, [], "\ud83d"]


@pytest.mark.parametrize("columns", [("question", "answer"), ("problem", "answer")])
@pytest.mark.parametrize("gold", NO_GOLDS, ids=repr)
def test_what_is_no_gold_is_named_by_file_row_and_column(tmp_path, columns, gold):
    good, bad = dict(zip(columns, ("1 + 1 ?", 2))), dict(zip(columns, ("1 + 1 ?", gold)))
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (good, bad)))
    message = complaint(read_problems, path)
    assert f"{path}, row 2" in message and "no answer" in message and "number" in message
    assert "row 2" in complaint(as_problems, [good, bad])
    own = OWN | {"family": "maths", "gold": {"answer": gold}}
    message = complaint(as_problems, [own])
    assert "row 1" in message and "answer" in message and "gold" in message


@pytest.mark.parametrize(
    ("number", "text"),
    [(7, "7"), (0, "0"), (-2.5, "-2.5"), (1e-7, "0.0000001"), (1e20, "100000000000000000000")],
)
def test_a_number_is_a_gold(tmp_path, number, text):
    for row in (
        {"question": "q ?", "answer": number},
        {"problem": "q ?", "answer": number},
        {"problem": "q ?", "solution": number},
        OWN | {"family": "maths", "gold": {"answer": number}},
    ):
        (read,) = read_problems(written(tmp_path / "rows.jsonl", [row]))
        (given,) = as_problems([row])
        assert read.gold == given.gold == {"answer": text}


@pytest.mark.parametrize(
    "question", [7, None, math.nan, ["q"], {"en": "q"}, " ", "\udc80"], ids=repr
)
def test_what_is_no_question_is_named(tmp_path, question):
    for row in ({"question": question, "answer": "#### 7"}, OWN | {"question": question}):
        path = tmp_path / "rows.jsonl"
        path.write_text(json.dumps(ROWS[0]) + "\n" + json.dumps(row) + "\n")
        message = complaint(read_problems, path)
        assert f"{path}, row 2" in message and "question" in message and "text" in message


@pytest.mark.parametrize("key", Problem.REQUIRED[:-1])
@pytest.mark.parametrize("value", [7, None, ["countdown"], "", math.nan], ids=repr)
def test_every_text_of_a_row_of_ours_is_one(tmp_path, key, value):
    path = written(tmp_path / "rows.jsonl", [OWN, OWN | {key: value}])
    message = complaint(read_problems, path)
    assert f"{path}, row 2" in message and key in message and repr(value) in message


WRONG = {
    "countdown": {"numbers": ["123", 3, [1, "2"], [1.5], [True], {"3": 4}],
                  "target": ["21", [21], 2.5]},
    "programs": {"tests": ["x", [1, 2], [["0", 3]]], "shown": [3, [[1, None]]]},
    "science": {"letter": [2, ["B"], "", math.nan]},
    "logic": {"solution": ["TFT", [1, 0, 1], True]},
    "chat": {"must": ["hello", [7]], "must_not": ["fool", [["no"]]]},
    "maths": {"answer": [["3/4"], {"value": 3}, False]},
}  # fmt: skip
CASES = [(f, k, v) for f, keys in WRONG.items() for k, values in keys.items() for v in values]


@pytest.mark.parametrize(("family", "key", "value"), CASES)
def test_each_familys_gold_is_checked_for_its_types(tmp_path, family, key, value):
    """Such rows were trained on with no right answer, or failed in the middle of a run."""
    good = OWN | {"family": family, "gold": dict(GOLD_LIKE[family])}
    path = tmp_path / "rows.jsonl"
    assert len(read_problems(written(path, [good]))) == 1
    bad = good | {"gold": good["gold"] | {key: value}}
    message = complaint(read_problems, written(path, [good, bad]))
    assert f"{path}, row 2" in message and "gold" in message and key in message
    assert repr(value) in message and repr(GOLD_LIKE[family][key]) in message


def test_the_table_of_types_fits_what_is_made_and_what_is_checked(tmp_path):
    for family in FAMILIES:
        rows = [asdict(problem) for problem in make_problems(family, "train", 5)]
        assert len(read_problems(written(tmp_path / "made.jsonl", rows))) == 5
    assert {name: tuple(keys) for name, keys in GOLD_LIKE.items()} == {
        name: CHECKERS[name].gold_keys for name in GOLD_LIKE
    }
    assert set(GOLD_LIKE) == {*FAMILIES, "maths"}


def test_a_table_that_gives_every_row_every_column_is_read(tmp_path):
    """Parquet has None where a row has no such column, and whole numbers stay whole beside it."""
    rows = [ROWS[0], {"problem": "1 + 1 ?", "answer": "2"}, {"nums": [44, 19, 35], "target": 98}]
    rows += [{"problem": "1 + 2 ?", "solution": "\\boxed{3}"}]
    rows = [dict.fromkeys(name for row in rows for name in row) | row for row in rows]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    found = read_problems(tmp_path / "rows.parquet")
    assert [p.gold.get("answer") for p in found if p.family == "maths"] == ["7", "2", "3"]


BAD_EXAMPLES = [
    {"text": 7}, {"text": None}, {"text": math.nan}, {"text": " "}, {"text": "\ud83d"}, "a text", 7,
    {"prompt": "q", "completion": 7}, {"prompt": "q", "completion": ""}, {},
    {"prompt": None, "completion": "a"}, {"prompt": "q", "text": None},
]  # fmt: skip


@pytest.mark.parametrize("row", BAD_EXAMPLES, ids=repr)
def test_a_bad_example_is_named(tmp_path, row):
    good = {"prompt": "", "completion": "a"}
    assert "examples, row 2" in complaint(read_examples, SftConfig(), [good, row])
    if isinstance(row, dict):
        path = tmp_path / "rows.jsonl"
        path.write_text(json.dumps(good) + "\n" + json.dumps(row) + "\n")
        message = complaint(read_examples, SftConfig(data=str(path)), None)
        assert f"{path}, row 2" in message and all(name in message for name in row)


def test_examples_of_a_table_are_trained_on(mini_folder, tmp_path):
    """Rows with every column, one with a text beside half a pair: these used to be tracebacks."""
    rows = [
        {"prompt": "make 7", "completion": "4 + 3", "text": None, "level": 1},
        {"prompt": None, "completion": None, "text": "6 * 4 = 24"},
        {"prompt": "make 7", "text": "4 + 3 = 7"},
    ]
    pandas.DataFrame(rows).to_parquet(tmp_path / "rows.parquet")
    cfg = SftConfig(model=mini_folder, data=str(tmp_path / "rows.parquet"), device="cpu", steps=1,
                    batch_size=3, run_dir=str(tmp_path / "run"))  # fmt: skip
    assert read_examples(cfg, None) == [
        {"prompt": "make 7", "completion": "4 + 3"}, {"text": "6 * 4 = 24"}, {"text": "4 + 3 = 7"},
    ]  # fmt: skip
    assert math.isfinite(train_sft(cfg, progress=False).logs[0].loss)


# 2. what is no file


def pipe(path):
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    return path


def listening(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    return path


NO_FILES = {
    "pipe": lambda folder, name: pipe(folder / name),
    "pipe in a folder": lambda folder, name: pipe(folder / "in" / "a.json").parent,
    "socket": lambda folder, name: listening(folder / name),
    "device": lambda folder, name: "/dev/zero",
    "link to a device": lambda at, name: (at / name).symlink_to("/dev/zero") or at / name,
}  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX")
@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet", "a.json.gz", "a"])
def test_what_is_no_file_is_said_at_once(tmp_path, monkeypatch, kind, name):
    monkeypatch.chdir(tmp_path)  # the name of a socket has to be short
    path, begun = NO_FILES[kind](tmp_path, name), time.monotonic()
    assert "no folder, pipe or device" in complaint(read_problems, path)
    assert time.monotonic() - begun < 5


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX")
def test_a_folder_or_pipe_is_no_file_of_examples_and_no_log(tmp_path):
    for path in (tmp_path, pipe(tmp_path / "pipe.jsonl")):
        for function, source in ((read_examples, SftConfig(data=str(path))), (read_jsonl, path)):
            more = (None,) if function is read_examples else ()
            assert f"{path} could not be read" in complaint(function, source, *more)
    assert "could not be read" in complaint(truncate_jsonl, tmp_path / "pipe.jsonl", 3)


# 3. how files are written

COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}
WAYS = {
    "lines": ("train.jsonl", lines(ROWS).encode()),
    "lines called json": ("train.json", lines(ROWS).encode()),
    "a list": ("train.json", json.dumps(ROWS, indent=2).encode()),
    "columns": ("train.json", json.dumps(COLUMNS).encode()),
    "columns of pandas": ("train.json", pandas.DataFrame(ROWS).to_json().encode()),
    "packed lines": ("train.jsonl.gz", gzip.compress(lines(ROWS).encode())),
    "packed list": ("train.json.gz", gzip.compress(json.dumps(ROWS).encode())),
    "packed columns": ("train.json.gz", gzip.compress(json.dumps(COLUMNS).encode())),
    "packed, not said": ("train.jsonl", gzip.compress(lines(ROWS).encode())),
    "byte-order mark": ("train.jsonl", lines(ROWS).encode("utf-8-sig")),
    "byte-order mark in json": ("train.json", json.dumps(ROWS).encode("utf-8-sig")),
    "utf-16": ("train.jsonl", lines(ROWS).encode("utf-16")),
    "utf-16 in json": ("train.json", json.dumps(COLUMNS).encode("utf-16")),
    "utf-16, big end first": ("train.jsonl", lines(ROWS).encode("utf-16-be")),
    "utf-16, little end first": ("train.jsonl", lines(ROWS).encode("utf-16-le")),
    "windows": ("train.jsonl", lines(ROWS).replace("\n", "\r\n").encode()),
    "windows, utf-16": ("train.jsonl", lines(ROWS).replace("\n", "\r\n").encode("utf-16")),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_write_rows_is_read_alike(tmp_path, way):
    name, data = WAYS[way]
    (tmp_path / name).write_bytes(data)
    found = read_problems(tmp_path / name)
    assert [p.question for p in found] == [row["question"] for row in ROWS]
    assert [p.gold["answer"] for p in found] == ["7", "24", "5"]
    assert [p.problem_id for p in found] == ["train/1", "train/2", "train/3"]


def test_a_packed_test_split_is_one(tmp_path):
    (tmp_path / "test.jsonl.gz").write_bytes(gzip.compress(lines(ROWS).encode()))
    assert "held out" in complaint(read_problems, tmp_path / "test.jsonl.gz")
    assert len(read_problems(tmp_path / "test.jsonl.gz", to_train=False)) == 3


UNREADABLE = {
    "latin-1": ("a.jsonl", lines(ROWS[:2]).encode("latin-1"), "line 2"),
    "latin-1 in a list": ("a.json", b'[\n{"question": "\xbf"}]', "line 2"),
    "packed latin-1": ("a.jsonl.gz", gzip.compress(lines(ROWS[:2]).encode("latin-1")), "line 2"),
    "half of utf-16": ("a.jsonl", lines(ROWS).encode("utf-16")[:-1], "line"),
}  # fmt: skip


@pytest.mark.parametrize("way", UNREADABLE)
def test_bytes_of_another_encoding_are_named_by_their_line(tmp_path, way):
    name, data, line = UNREADABLE[way]
    (tmp_path / name).write_bytes(data)
    message = complaint(read_problems, tmp_path / name)
    assert f"{tmp_path / name}, {line}" in message and "UTF-8" in message and "iconv" in message


DAMAGED = {
    "half packed": ("a.jsonl.gz", gzip.compress(lines(ROWS * 50).encode())[:-20], "whole file"),
    "not packed well": ("a.jsonl.gz", gzip.compress(lines(ROWS).encode())[:20] + b"?" * 9, "whole"),
    "half a line": ("a.jsonl", lines(ROWS).encode()[:-9], "line 3 is no JSON"),
    "half a line, packed": ("a.jsonl.gz", gzip.compress(lines(ROWS).encode()[:-9]), "line 3"),
    "unequal columns": ("a.json", b'{"question": ["a"], "answer": ["#### 1", "2"]}', "read"),
    "too deep": ("a.jsonl", b"[" * 100_000, "line 1 is no JSON"),
    "too deep in json": ("a.json", b"[" * 100_000, "could not be read"),
    "long number": ("a.jsonl", b'{"question": "q", "answer": ' + b"9" * 5000 + b"}", "line 1"),
    "parquet of nothing": ("a.parquet", b"PAR1PAR1", "could not be read"),
}  # fmt: skip


@pytest.mark.parametrize("way", DAMAGED)
def test_a_damaged_file_is_an_error_of_one_line(tmp_path, way):
    name, data, words = DAMAGED[way]
    (tmp_path / name).write_bytes(data)
    message = complaint(read_problems, tmp_path / name)
    assert str(tmp_path / name) in message and words in message


# 4. logs


def log(path, n=5, damage=None, with_=b"\x00\x00{half"):
    for step in range(1, n + 1):
        append_jsonl(path, {"step": step, "text": "好"})
    if damage:
        rows = path.read_bytes().split(b"\n")
        rows[damage - 1] = with_
        path.write_bytes(b"\n".join(rows))
    return path


@pytest.mark.parametrize("with_", [b'{"step": 3, "te', b"\x00" * 9, b"7", b'{"text": "caf\xe9"}'])
@pytest.mark.parametrize("last_step", [1, 3, 5])
def test_a_damaged_line_of_a_log_is_named_and_nothing_is_dropped(tmp_path, with_, last_step):
    path = log(tmp_path / "metrics.jsonl", damage=3, with_=with_)
    before = path.read_bytes()
    for message in (complaint(truncate_jsonl, path, last_step), complaint(read_jsonl, path)):
        assert f"{path}, line 3" in message
    assert path.read_bytes() == before


def test_only_the_half_line_of_a_kill_is_dropped_in_silence(tmp_path):
    whole = log(tmp_path / "whole.jsonl").read_bytes()
    last = whole.rindex(b"{")
    for cut in range(last, len(whole)):  # within the Chinese character, too
        path = tmp_path / "metrics.jsonl"
        path.write_bytes(whole[:cut])
        n = 4 if cut < len(whole) - 1 else 5  # all but the end of the line was written
        assert [row["step"] for row in read_jsonl(path)] == list(range(1, n + 1))
        truncate_jsonl(path, 9)
        assert path.read_bytes() == (whole if n == 5 else whole[:last])


def test_a_run_with_a_damaged_log_says_so_and_goes_on_once_it_is_mended(cfg):
    run = train(cfg.change(steps=3), rewards=VARIED, progress=False)
    path = run.run_dir / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'{"step": 2', b'{"step" 2'))
    assert f"{path}, line 2 is no JSON" in complaint(train, cfg, rewards=VARIED, progress=False)
    path.write_bytes(whole + b'{"step": 4, "rew')
    logs = train(cfg, rewards=VARIED, progress=False).logs
    assert [row.step for row in logs] == list(range(1, cfg.steps + 1))


# 5. prompts and the context


def asked(n: int) -> dict:
    """A problem whose prompt has about n tokens."""
    return OWN | {"problem_id": f"a/{n}", "question": "make 21 from" + " 3" * n + " ."}


def test_a_prompt_too_long_is_left_out_before_the_first_update(cfg, mini, capfd):
    problems = [OWN, *(asked(n) for n in (2, 105, 3, 115))]
    longest = len(mini.encode(render(asked(115)["question"], cfg.template)))
    assert longest + cfg.max_new_tokens > mini.max_length
    result = train(cfg.change(samples_every=1), problems=problems, rewards=VARIED, progress=False)
    said = [line for line in "".join(capfd.readouterr()).splitlines() if "left out" in line]
    assert len(said) == 1
    for words in ("2 of 5 problems", f"context of {mini.max_length} tokens", f"has {longest}"):
        assert words in said[0]
    read = {row["problem_id"] for row in read_jsonl(result.run_dir / "rollouts.jsonl")}
    assert read == {"a/1", "a/2", "a/3"}


def test_all_prompts_too_long_and_unknown_words_end_a_run_before_it_begins(cfg):
    message = complaint(train, cfg, problems=[asked(115)] * 3, progress=False)
    assert "3 of 3" in message and "Lower max_new_tokens" in message
    problems = [OWN] * 400 + [OWN | {"question": "make 21 from seven ."}]
    called = []
    message = complaint(train, cfg, problems=problems, rewards=[called.append], progress=False)
    assert "'seven'" in message and "unknown" in message and not called


def test_what_fits_is_measured_with_the_longest_answer_of_the_run(cfg, mini):
    """Whatever cfg.steps is: a run that is resumed with more steps draws from the same pool."""
    room = mini.max_length - len(mini.encode(render(OWN["question"], cfg.template)))
    problems = as_problems([OWN, asked(9)])
    cfg = cfg.change(max_new_tokens=room)
    assert fitting(problems, mini, cfg) == problems[:1]
    assert (
        fitting(problems, mini, cfg.change(max_new_tokens=room // 2, extend_length_after=0))
        == problems
    )
    longer = cfg.change(max_new_tokens=room // 2, extend_length_after=50)
    assert fitting(problems, mini, longer) == problems[:1]
    assert fitting(problems, mini, cfg.change(max_new_tokens=1)) == problems
    assert fitting((), mini, cfg) == []


def test_ten_thousand_prompts_are_measured_in_seconds(cfg, mini):
    problems = as_problems([OWN | {"problem_id": str(i)} for i in range(10_000)])
    begun = time.monotonic()
    fitting(problems, mini, cfg)
    assert time.monotonic() - begun < 10


# 6. drawing from a pool


def pool(n: int) -> list[Problem]:
    return as_problems([OWN | {"problem_id": str(i)} for i in range(n)])


def ids(cfg, rollout, problems, attempt=0) -> list[int]:
    return [int(p.problem_id) for p in draw_problems(cfg, rollout, problems, attempt)]


@pytest.mark.parametrize(("size", "n"), [(12, 4), (13, 4), (64, 32), (63, 32), (33, 32), (7, 5)])
def test_an_epoch_gives_every_problem_once(size, n):
    cfg, problems = preset("tiny", n_problems=n, seed=3), pool(size)
    drawn = [ids(cfg, i, problems) for i in range(6 * size // n + 2)]
    assert all(len(set(rollout)) == n for rollout in drawn), "none twice in a rollout"
    first = [i for rollout in drawn[: size // n] for i in rollout]
    assert len(set(first)) == len(first), "none twice in an epoch"
    for epoch in range(6):
        within = drawn[epoch * size // n : -(-(epoch + 1) * size // n)]
        assert {i for rollout in within for i in rollout} == set(range(size)), "all in an epoch"
    if size % n == 0:
        epochs = [sum(drawn[i : i + size // n], []) for i in (0, size // n)]
        assert sorted(epochs[0]) == sorted(epochs[1]) and epochs[0] != epochs[1]


@pytest.mark.parametrize(("size", "n"), [(1, 8), (3, 8), (5, 8), (8, 8), (31, 32), (3, 32)])
def test_a_small_pool_is_shared_out_evenly(size, n):
    cfg, problems = preset("tiny", n_problems=n), pool(size)
    for i in range(12):
        counts = Counter(ids(cfg, i, problems))
        assert set(counts.values()) <= {n // size, -(-n // size)} and len(counts) == size


@pytest.mark.parametrize(("size", "n"), [(100, 8), (33, 8), (32, 8), (20, 8), (9, 8), (3, 8)])
def test_further_attempts_walk_on(size, n):
    """Dynamic sampling: a problem comes again in a rollout only when all have come."""
    cfg, problems = preset("tiny", n_problems=n), pool(size)
    for i in range(15):
        attempts = [ids(cfg, i, problems, attempt) for attempt in range(rollout.ATTEMPTS)]
        counts = Counter(sum(attempts, []))
        most = -(-n * rollout.ATTEMPTS // size)
        assert max(counts.values()) <= most
        assert len(counts) == min(size, n * rollout.ATTEMPTS)
    assert ids(cfg, 0, pool(100), 1) == ids(cfg, 1, pool(100)), "the walk is one"


def test_a_draw_depends_on_seed_rollout_and_attempt_alone():
    cfg, problems = preset("tiny", n_problems=8), pool(50)
    wanted = [(i, attempt) for i in range(30) for attempt in (0, 2)]
    forth = {key: ids(cfg, key[0], problems, key[1]) for key in wanted}
    back = {key: ids(cfg, key[0], problems, key[1]) for key in reversed(wanted)}
    assert forth == back
    assert ids(cfg, 0, problems) != ids(cfg.change(seed=1), 0, problems)
    assert ids(cfg, 0, problems) != list(range(8))


def test_a_resumed_run_walks_on(cfg):
    cfg = cfg.change(samples_every=1, n_problems=4)
    problems = [OWN | {"problem_id": str(i)} for i in range(6)]

    def seen(run_dir, *steps) -> list:
        for n in steps:
            more = cfg.change(run_dir=run_dir, steps=n)
            result = train(more, problems=problems, rewards=VARIED, progress=False)
        return read_jsonl(result.run_dir / "rollouts.jsonl")

    assert seen(cfg.run_dir + "-a", 6) == seen(cfg.run_dir + "-b", 2, 3, 6)


@pytest.mark.parametrize(
    ("question", "language"),
    [
        ("Find $x$ if $2x = 6$.", "en"),
        ("求 $\\frac{1}{2}+\\sqrt{3}$ 的值", "zh"),
        ("小明有3个苹果，他吃了1个，还剩多少个？", "zh"),
        ("What is the Chinese word 水 in English?", "en"),
        ("24 = ?", "en"),
    ],
)
def test_the_language_of_a_real_question_is_read_off_it(question, language):
    """The language reward would pay a Chinese thought about a Chinese question nothing."""
    (problem,) = as_problems([{"question": question, "answer": "3"}])
    assert problem.language == language
