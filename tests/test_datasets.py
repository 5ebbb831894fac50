"""GSM8K and MATH: read in their own formats, refused where they are held out, trained and measured.

Every question here is invented; only the formats are those of the data sets.
"""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import huggingface_hub
import pandas
import pytest
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from r1lite import __main__ as command_line
from r1lite.config import preset
from r1lite.evaluation import grade
from r1lite.learn import train
from r1lite.policy import load_policy
from r1lite.prompt import render
from r1lite.records import UNCHECKED, Completion, Group, Problem, UserError
from r1lite.rewards import accuracy_reward, is_right_leniently, is_right_output, score
from r1lite.runlog import read_jsonl
from r1lite.stages.held_out import eval_problems, held_out, held_out_source, subsample
from r1lite.stages.zero import run_zero
from r1lite.world import as_problems, is_held_out, make_problem, read_problems
from r1lite.world.datasets import DATA_SETS, DataSet, last_boxed

GSM8K = [
    {
        "question": "A jar holds 7 red and twice as many blue beads. How many beads are in it?",
        "answer": "There are 7*2=<<7*2=14>>14 blue beads.\nIn all 7+14=<<7+14=21>>21.\n#### 21",
    },
    {
        "question": "A mill grinds 617 sacks a day. How many sacks does it grind in two days?",
        "answer": "It grinds 617*2=<<617*2=1234>>1234 sacks.\n#### 1,234",
    },
    {
        "question": "Four lamps cost $6 each and one costs $2. What do all five cost?",
        "answer": "4*6=<<4*6=24>>24, and 24+2=<<24+2=26>>26.\n#### $26",
    },
]
MATH = [
    {
        "problem": "What is $\\frac{1}{2} + \\frac{1}{4}$?",
        "level": "Level 1",
        "type": "Prealgebra",
        "solution": "The first is not $\\boxed{1}$; the sum is $\\boxed{\\frac{3}{4}}$.",
    },
    {
        "problem": "Is the number $2 \\cdot 9$ even or odd?",
        "level": "Level 2",
        "type": "Number Theory",
        "solution": "Two divides it, so it is $\\boxed{\\text{even}}$.",
    },
]
MATH_500 = [
    {
        "problem": "Solve $x - 5 = 0$.",
        "solution": "So $x = \\boxed{5}$.",
        "answer": "5",
        "subject": "Algebra",
        "level": 1,
        "unique_id": "test/algebra/99999.json",
    }
]


def jsonl(path: Path, rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def archive(folder: Path) -> Path:
    """The MATH archive: a file a problem, by split and subject."""
    for i, row in enumerate(MATH):
        path = folder / row["type"].lower().replace(" ", "_") / f"{i}.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(row, indent=4), encoding="utf-8")
    return folder


def parquet(path: Path, rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pandas.DataFrame(rows).to_parquet(path)
    return path


def golds(source, **more) -> list[str]:
    return [problem.gold["answer"] for problem in read_problems(source, **more)]


def complaint(function, *args, **kwargs) -> str:
    with pytest.raises(UserError) as caught:
        function(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message and message.endswith("."), message
    return message


def said(final: str, think: str = "hm") -> str:
    return f"<think> {think} </think> <answer> {final} </answer>"


# reading


def test_gsm8k_as_its_repository_has_it(tmp_path):
    found = read_problems(jsonl(tmp_path / "train.jsonl", GSM8K))
    assert [p.gold["answer"] for p in found] == ["21", "1,234", "$26"]
    assert [p.question for p in found] == [row["question"] for row in GSM8K]
    first = found[0]
    assert (first.family, first.language, first.problem_id) == ("maths", "en", "train/1")
    assert [p.cluster for p in found] == [p.problem_id for p in found]
    assert len({p.problem_id for p in found}) == 3


def test_math_as_a_folder_as_lines_and_as_a_list(tmp_path):
    found = read_problems(archive(tmp_path / "MATH" / "train"))
    assert [p.problem_id for p in found] == ["train/number_theory/1/1", "train/prealgebra/0/1"]
    assert [p.gold["answer"] for p in found] == ["\\text{even}", "\\frac{3}{4}"]
    assert golds(jsonl(tmp_path / "math.jsonl", MATH)) == ["\\frac{3}{4}", "\\text{even}"]
    (tmp_path / "list.json").write_text(json.dumps(MATH))
    assert golds(tmp_path / "list.json") == ["\\frac{3}{4}", "\\text{even}"]


def test_the_answer_column_of_math_500_comes_before_its_solution(tmp_path):
    row = MATH_500[0] | {"unique_id": "train/algebra/1.json", "solution": "\\boxed{x = 5}"}
    assert golds(jsonl(tmp_path / "some.jsonl", [row])) == ["5"]
    assert golds(jsonl(tmp_path / "some.jsonl", [row | {"answer": 0}])) == ["0"]


def test_parquet_is_read_like_lines(tmp_path):
    path = parquet(tmp_path / "train-00000-of-00001.parquet", GSM8K)
    lines = jsonl(tmp_path / "train.jsonl", GSM8K)
    assert golds(path) == golds(lines)
    path.write_bytes(path.read_bytes()[:100])
    assert "could not be read" in complaint(read_problems, path)


def test_without_pyarrow_its_name_is_said(tmp_path, monkeypatch):
    for name in ("pyarrow", "fastparquet"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it raises ImportError
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    message = complaint(read_problems, tmp_path / "train.parquet")
    assert "pip install pyarrow" in message and "train.parquet" in message and ".jsonl" in message
    assert golds(jsonl(tmp_path / "train.jsonl", GSM8K)) == ["21", "1,234", "$26"]


# Countdown: columns of Jiayi-Pan/Countdown-Tasks-3to4

SETS = [
    [44, 19, 35],
    [63, 95, 96],
    [95, 11, 56],
    [19, 74, 45],
    [49, 41, 73],
    [59, 54, 4, 7],
    [9, 2],
]
COUNTDOWN = [{"target": sum(nums), "nums": nums} for nums in SETS]


def test_countdown_is_read_from_lines_and_parquet_with_its_numbers_split(tmp_path):
    lines = jsonl(tmp_path / "tasks.jsonl", COUNTDOWN)
    train_on = read_problems(lines)
    measured = read_problems(lines, to_train=False)
    for path in (parquet(tmp_path / "tasks.parquet", COUNTDOWN),):
        assert read_problems(path) == train_on
        assert read_problems(path, to_train=False) == measured
    assert len(train_on) + len(measured) == len(SETS) and train_on and measured
    for held, problems in ((False, train_on), (True, measured)):
        for p in problems:
            numbers = SETS[int(p.problem_id.split("/")[1]) - 1]
            assert p.family == "countdown" and p.gold["numbers"] == numbers
            assert p.cluster == "-".join(map(str, sorted(numbers)))
            assert is_held_out("countdown", p.cluster) == held
            assert p.question == f"make {sum(numbers)} from {' '.join(map(str, numbers))} ."
            assert is_right_output(p, said(" + ".join(map(str, numbers))))
            assert not is_right_output(p, said(" + ".join(map(str, numbers[1:]))))
    json.dumps([dict(p.gold) for p in train_on])  # plain numbers, not numpy's


def test_countdown_knows_division_and_any_number_of_numbers(tmp_path):
    rows = [{"target": 3, "nums": [12, 4]}, {"target": 21, "nums": [1, 2, 3, 4, 5, 6]}]
    path = jsonl(tmp_path / "tasks.jsonl", rows)
    found = {len(p.gold["numbers"]): p for side in (True, False) for p in one_side(path, side)}
    assert is_right_output(found[2], said("12 / 4")) and is_right_output(
        found[6], said("1 + 2 + 3 + 4 + 5 + 6")
    )
    assert not is_right_output(found[2], said("12 / 4 / 1"))


def one_side(path, to_train):
    try:
        return read_problems(path, to_train)
    except UserError as error:
        assert "side of the split" in str(error)
        return []


@pytest.mark.parametrize("nums", [[1.5, 2], ["1", "2"], "12", 3, [-1, 4], [], None])
def test_a_countdown_row_that_holds_no_numbers_is_named(tmp_path, nums):
    path = jsonl(tmp_path / "tasks.jsonl", [COUNTDOWN[0], {"target": 3, "nums": nums}])
    message = complaint(read_problems, path)
    assert f"{path}, row 2" in message and "whole numbers" in message and repr(nums) in message


def test_countdown_is_fetched_once_for_both_sides(hub, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    folder, asked = hub
    parquet(folder / "data" / "train-00000-of-00001.parquet", COUNTDOWN)
    train_on, measured = read_problems("countdown"), read_problems("countdown:test", to_train=False)
    assert len(train_on) + len(measured) == len(SETS)
    assert not {p.cluster for p in train_on} & {p.cluster for p in measured}
    assert asked[0][0] == "Jiayi-Pan/Countdown-Tasks-3to4"
    assert {more["allow_patterns"][0] for _, more in asked} == {"data/*"}
    assert held_out_source("countdown") == "countdown:test"
    assert "held out" in complaint(read_problems, "countdown:test")
    cfg = preset("tiny", problems="countdown")
    assert {p.problem_id for p in eval_problems(cfg, 0)} == {p.problem_id for p in measured}


def test_a_run_trains_on_a_countdown_file(cfg, tmp_path):
    rows = [{"target": a + b, "nums": [a, b]} for a in range(1, 9) for b in range(1, 9)]
    path = jsonl(tmp_path / "tasks.jsonl", rows)
    result = train(cfg.change(problems=str(path), steps=1), progress=False)
    asked = read_jsonl(result.run_dir / "rollouts.jsonl")
    assert {row["problem_id"].split("/")[0] for row in asked} == {"tasks"}


BOXES = {
    r"\boxed{\frac{3}{4}}": r"\frac{3}{4}",
    r"$\boxed{1}$ no, $\boxed{2}$": "2",
    r"\boxed{ \left\{ x \right. }": r"\left\{ x \right.",
    r"\boxed{\{1, 2\}}.": r"\{1, 2\}",
    r"\fbox{12}": "12",
    r"so $\boxed 7$ it is": "7",
    r"\boxed{\sqrt{\frac{1}{2}} + {3}} and {more}": r"\sqrt{\frac{1}{2}} + {3}",
    r"\boxed{never closed": "",
    "no box": "",
}


@pytest.mark.parametrize("text", BOXES)
def test_the_last_box_with_its_braces(text):
    assert last_boxed(text) == BOXES[text]


def test_our_own_rows_may_be_maths_and_may_be_mixed(tmp_path):
    own = {
        "problem_id": "mine/1", "family": "maths", "cluster": "mine", "language": "zh",
        "question": "1 + 1 = ?", "gold": {"answer": "2"},
    }  # fmt: skip
    path = jsonl(tmp_path / "mine.jsonl", [own, GSM8K[0], MATH[0]])
    found = read_problems(path)
    assert found[0] == Problem(**own) and [p.problem_id for p in found[1:]] == ["mine/2", "mine/3"]
    message = complaint(read_problems, jsonl(path, [own, own | {"gold": {}}]))
    assert "row 2" in message and "gold lacks answer" in message and "'maths'" in message
    message = complaint(read_problems, jsonl(path, [own | {"family": "sudoku"}]))
    assert "row 1" in message and "'sudoku'" in message and "maths" in message


BAD = {
    "columns of nothing": ({"prompt": "1 + 1", "label": "2"}, "prompt, label", "problem and solut"),
    "no columns": ({}, "(none)", "question and answer"),
    "gsm8k without ####": (GSM8K[0] | {"answer": "it is 21"}, "it is 21", "####"),
    "gsm8k with an empty gold": (GSM8K[0] | {"answer": "so\n#### "}, "####", "GSM8K"),
    "math without a box": (MATH[0] | {"solution": "it is 3"}, "it is 3", "\\boxed{}"),
    "no question": (GSM8K[0] | {"question": " "}, "has no question", "GSM8K"),
    "no answer": (GSM8K[0] | {"answer": None}, "has no answer", "####"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_row_that_fits_no_format_is_named(tmp_path, name):
    row, value, rule = BAD[name]
    message = complaint(read_problems, jsonl(tmp_path / "rows.jsonl", [GSM8K[1], row]))
    assert f"{tmp_path / 'rows.jsonl'}, row 2" in message and "leave the row out" in message
    assert value in message and rule in message


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "half.json").write_text('{"problem": "1')
    assert "half.json could not be read" in complaint(read_problems, tmp_path / "half.json")
    (tmp_path / "words.json").write_text('["a", "b"]')
    assert "words.json holds" in complaint(read_problems, tmp_path / "words.json")
    (tmp_path / "empty").mkdir()
    assert "holds no problems" in complaint(read_problems, tmp_path / "empty")
    message = complaint(read_problems, "gsm9k")
    assert "gsm9k" in message and "gsm8k, math, math-500" in message


# held out means held out


@pytest.mark.parametrize(
    "place", ["test.jsonl", "test-00000-of-00001.jsonl", "gsm8k_test.jsonl", "Test.v2.jsonl"]
)
def test_a_file_called_test_is_measured_on_and_never_trained_on(tmp_path, place):
    path = jsonl(tmp_path / place, GSM8K)
    message = complaint(read_problems, path)
    assert str(path) in message and "held out" in message and "evaluate" in message
    assert golds(path, to_train=False) == ["21", "1,234", "$26"]
    assert len(golds(jsonl(tmp_path / "contest.jsonl", GSM8K))) == 3  # a word within a word


def test_the_test_folder_of_the_archive_is_refused_wherever_one_points(tmp_path):
    archive(tmp_path / "MATH" / "test")
    for place in ("MATH", "MATH/test", "MATH/test/prealgebra"):
        assert "held out" in complaint(read_problems, tmp_path / place)
        assert golds(tmp_path / place, to_train=False)


def test_a_row_that_says_it_is_of_the_test_split_is_refused(tmp_path):
    path = jsonl(tmp_path / "math500.jsonl", MATH_500)
    assert "held out" in complaint(read_problems, path)
    assert golds(path, to_train=False) == ["5"]


def test_training_on_a_test_split_ends_before_it_begins(cfg, tmp_path):
    path = jsonl(tmp_path / "test.jsonl", GSM8K)
    for source in (str(path), "gsm8k:test", "math-500"):
        message = complaint(train, cfg.change(problems=source), progress=False)
        assert repr(source) in message and "held out" in message
    assert not (Path(cfg.run_dir) / "metrics.jsonl").exists()
    assert command_line.main(["zero", "--problems", "math:test"]) == 2


# the Hub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub whose every data set is this folder; keeps what it was asked for."""
    folder, asked = tmp_path / "snapshots" / "0a1b2c", []
    folder.mkdir(parents=True)

    def snapshot_download(repo_id, **more):
        asked.append((repo_id, more))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return folder, asked


def test_names_are_fetched_from_the_hub(hub, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    folder, asked = hub
    parquet(folder / "main" / "train-00000-of-00001.parquet", GSM8K)
    parquet(folder / "main" / "test-00000-of-00001.parquet", GSM8K[:1])
    parquet(folder / "socratic" / "train-00000-of-00001.parquet", MATH)
    for i, subject in enumerate(("algebra", "geometry")):
        parquet(folder / subject / "train-00000-of-00001.parquet", [MATH[i]])
    found = read_problems("gsm8k")
    assert [p.gold["answer"] for p in found] == ["21", "1,234", "$26"]
    assert found[1].problem_id == "gsm8k/main/train-00000-of-00001/2"
    assert read_problems("gsm8k:train") == found
    assert golds("gsm8k:test", to_train=False) == ["21"]
    wanted = {"repo_type": "dataset", "allow_patterns": ["main/train-*.parquet"]}
    assert asked[:2] == [("openai/gsm8k", wanted)] * 2
    assert asked[2][1]["allow_patterns"] == ["main/test-*.parquet"]
    for name in ("main", "socratic"):
        (folder / name / "train-00000-of-00001.parquet").unlink()
    assert golds("math") == ["\\frac{3}{4}", "\\text{even}"]
    wanted = {"repo_type": "dataset", "allow_patterns": ["*/train-*.parquet"]}
    assert asked[-1] == ("EleutherAI/hendrycks_math", wanted)


def test_math_500_needs_no_pyarrow(hub, monkeypatch):
    folder, asked = hub
    jsonl(folder / "test.jsonl", MATH_500)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (found,) = read_problems("math-500", to_train=False)
    assert (found.problem_id, found.gold) == ("math-500/test/1", {"answer": "5"})
    wanted = {"repo_type": "dataset", "allow_patterns": ["test.jsonl"]}
    assert asked == [("HuggingFaceH4/MATH-500", wanted)]


def test_the_real_function_takes_these_arguments_and_a_lack_of_network_is_told(monkeypatch):
    import inspect

    inspect.signature(huggingface_hub.snapshot_download).bind(
        "openai/gsm8k", repo_type="dataset", allow_patterns=["main/train-*.parquet"]
    )

    def no(*args, **more):
        raise ConnectionError("no\nroute")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", no)
    message = complaint(read_problems, "gsm8k")
    assert "openai/gsm8k" in message and "no route" in message and "give its path" in message


def test_what_the_hub_does_not_have(hub):
    assert "no such file" in complaint(read_problems, "gsm8k")
    for source in ("gsm8k:dev", "math-500:train"):
        message = complaint(read_problems, source)
        assert source in message and "test" in message
    assert len(hub[1]) == 1  # a test split to train on is refused before it is fetched
    complaint(read_problems, "gsm8k:test")
    assert len(hub[1]) == 1


def test_a_path_of_that_name_comes_first(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    archive(tmp_path / "math")
    assert len(golds("math")) == 2 and not hub[1]


# what answers are worth


@pytest.mark.parametrize(
    ("row", "right", "wrong"),
    [
        (GSM8K[0], ["21", "\\boxed{21}", "21 beads", "$21$", "21.0"], ["22", "2 or 21", "7, 21"]),
        (GSM8K[1], ["1234", "1,234", "\\boxed{1{,}234}"], ["1", "234", "(1,234)"]),
        (GSM8K[2], ["26", "$26", "26 dollars", "\\$26"], ["2", "$6"]),
        (MATH[0], ["\\frac{3}{4}", "\\boxed{\\frac{3}{4}}", "3/4", "0.75"], ["1", "3", "4/3"]),
        (MATH[1], ["even", "\\text{even}", "\\boxed{\\text{even}}", "even."], ["odd", "not even"]),
    ],
)
def test_accuracy_is_judged_by_algebra(tmp_path, row, right, wrong):
    (problem,) = read_problems(jsonl(tmp_path / "a.jsonl", [row]))
    texts = [said(final) for final in right + wrong]
    found = accuracy_reward(texts, texts, problem=[problem] * len(texts))
    assert found == [1.0] * len(right) + [0.0] * len(wrong)
    assert [is_right_output(problem, text) for text in texts] == [value == 1.0 for value in found]
    bare = right[0]
    assert accuracy_reward(["q"], [bare], problem=[problem]) == [0.0]  # no format, no reward
    assert not is_right_output(problem, bare) and is_right_leniently(problem, f"<answer>{bare}")


def test_leniently_the_last_box_counts(tmp_path):
    problem = read_problems(jsonl(tmp_path / "a.jsonl", MATH))[0]
    text = r"First \boxed{1} , no , it is \boxed{\frac{3}{4}} ."
    assert is_right_leniently(problem, text) and not is_right_output(problem, text)
    assert not is_right_leniently(problem, r"\boxed{\frac{3}{4}} , no , \boxed{1}")


UNREADABLE = Problem("u", "maths", "u", "en", "q", {"answer": "\\frac{"})


def group(problem: Problem, *texts: str) -> Group:
    return Group(problem, (1,), tuple(Completion((2, 3), (-1.0, -1.0), t, False) for t in texts))


def test_problems_of_several_families_are_each_judged_by_their_own(tmp_path):
    """Each value has to come back to the answer that it belongs to."""
    maths = read_problems(jsonl(tmp_path / "a.jsonl", GSM8K))
    logic = make_problem("logic", "train", 1)
    groups = [
        group(maths[0], said("21"), said("20")),
        group(logic, said("21"), said("20")),
        group(UNREADABLE, said("21"), "21"),
        group(maths[1], said("21"), said("1,234")),
    ]
    scored = score(groups, {"accuracy": 1.0, "format": 0.2})
    accuracy = [g.parts["accuracy"] for g in scored]
    assert accuracy == [(1.0, 0.0), (0.0, 0.0), (UNCHECKED, UNCHECKED), (0.0, 1.0)]
    assert scored[0].rewards == (1.2, 0.2) and scored[2].rewards == (UNCHECKED, UNCHECKED)
    report = grade(groups)
    assert report.pass_at_1 == 2 / 8 and report.unchecked == 2 / 8
    assert report.cons_at_k == 1 / 4 and report.pass_at_1_lenient == 2 / 8


def test_intervals_go_by_the_problem(tmp_path):
    one, other, _ = read_problems(jsonl(tmp_path / "a.jsonl", GSM8K))
    apart = grade([group(one, said("21")), group(other, said("0"))])
    together = grade(
        [group(one, said("21")), group(replace(other, cluster=one.cluster), said("0"))]
    )
    assert apart.interval > 0 and together.interval != together.interval  # one cluster: nan


# the whole loop


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    """A random Qwen2 with bytes and some merges, so that every text can be written."""
    texts = [render(row.get("question") or row["problem"], "r1-zero") for row in GSM8K + MATH]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=400, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"]
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    config = transformers.Qwen2Config(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
    )
    transformers.set_seed(0)
    path = tmp_path_factory.mktemp("maths") / "model"
    transformers.Qwen2ForCausalLM(config).save_pretrained(path)
    fast.save_pretrained(path)
    return str(path)


@pytest.fixture
def run_cfg(folder, tmp_path):
    rows = [*GSM8K, *MATH]
    return preset(
        "tiny", model=folder, template="r1-zero", device="cpu", n_problems=3, group_size=4,
        max_new_tokens=24, steps=2, samples_every=1, learning_rate=2e-3, warmup_steps=0,
        problems=str(jsonl(tmp_path / "train.jsonl", rows)), run_dir=str(tmp_path / "run"),
    )  # fmt: skip


def test_training_on_maths(run_cfg, monkeypatch):
    """The rule of accuracy is left as it is; only the words of the random model are replaced."""
    from r1lite.learn import rollout

    sampled, written = rollout.sample_parts, []

    def speaking(*args, **more):
        for part in sampled(*args, **more):
            spoken = []
            for g in part:
                finals = [g.problem.gold["answer"], "5", "99", "$1$ or 2"]
                answers = [replace(r, text=said(f)) for r, f in zip(g.completions, finals)]
                written.append(g)
                spoken.append(replace(g, completions=tuple(answers)))
            yield spoken

    monkeypatch.setattr(rollout, "sample_parts", speaking)
    found = train(run_cfg, progress=False)
    assert [log.step for log in found.logs] == [1, 2]
    assert [log.accuracy for log in found.logs] == [0.25, 0.25]
    assert all(
        log.format == 1 and log.unchecked == 0 and log.informative_groups == 1 for log in found.logs
    )
    assert all(log.grad_norm > 0 and log.sampler_gap < 1e-4 for log in found.logs)
    assert {g.problem.family for g in written} == {"maths"}
    policy = load_policy(run_cfg.model, device="cpu")
    prompt = policy.decode(list(written[0].prompt_ids))
    assert prompt == render(written[0].problem.question, "r1-zero") and "<think>" in prompt
    rows = read_jsonl(Path(run_cfg.run_dir) / "rollouts.jsonl")
    assert {row["problem_id"].partition("/")[0] for row in rows} == {"train"}


def test_a_random_model_trains_and_is_measured_by_the_stage(run_cfg, tmp_path):
    """run_zero measures on the test file beside the training file; nothing is right here."""
    jsonl(tmp_path / "test.jsonl", GSM8K[:2])
    assert held_out_source(run_cfg.problems) == str(tmp_path / "test.jsonl")
    result, summary = run_zero(run_cfg.change(steps=1), k=2, progress=False)
    assert result.logs[0].accuracy == 0 and result.logs[0].unchecked == 0
    final = summary["eval"]["final"]
    assert (final["n_problems"], final["k"], final["unchecked"]) == (2, 2, 0)
    rows = read_jsonl(Path(run_cfg.run_dir) / "samples.jsonl")
    assert {row["question"] for row in rows} == {row["question"] for row in GSM8K[:2]}


def test_what_a_run_is_measured_on(run_cfg, cfg, hub, tmp_path):
    message = complaint(eval_problems, run_cfg, 80)
    assert "train.jsonl" in message and "no test split" in message
    assert eval_problems(cfg, 5) == held_out("countdown", 5)
    four = cfg.change(problems="data/four_numbers.jsonl")  # no split of its own
    assert eval_problems(four, 5) == held_out("countdown", 5)
    jsonl(hub[0] / "test.jsonl", [MATH_500[0] | {"answer": i} for i in range(9)])
    found = eval_problems(cfg.change(problems="math-500"), 4)
    assert len(found) == 4 == len({p.problem_id for p in found}) and found[0].family == "maths"
    assert {name: held_out_source(name) for name in DATA_SETS} == {
        name: f"{name}:test" for name in DATA_SETS
    }


def test_a_part_of_an_exam_is_always_the_same_part():
    problems = [make_problem("logic", "train", i) for i in range(20)]
    assert subsample(problems, 0) == subsample(problems, 20) == subsample(problems, 99) == problems
    five = subsample(problems, 5)
    assert five == subsample(problems, 5) != problems[:5] and len(five) == 5


def test_evaluate_measures_on_the_problems_given(folder, tmp_path, capsys):
    path = jsonl(tmp_path / "test.jsonl", GSM8K)
    words = ["evaluate", "--model", folder, "--device", "cpu", "--template", "r1-zero", "-k", "2",
             "--max-new-tokens", "8", "--problems", str(path)]  # fmt: skip
    assert command_line.main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["n_problems"], report["k"], report["pass_at_1"]) == (3, 2, 0.0)
    assert command_line.main([*words, "--n-held-out", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["n_problems"] == 2


def test_rows_in_memory_are_problems():
    made = make_problem("logic", "train", 1)
    rows = [
        made, asdict(made), {"question": "1 + 1 ?", "answer": 2},
        {"question": "q", "answer": "so\n#### 21"}, {"problem": "p", "answer": "5"},
        {"problem": "p", "solution": "it is \\boxed{7}"}, {"nums": [1, 2], "target": 3},
    ]  # fmt: skip
    found = as_problems(rows)
    assert found[:2] == [made, made] and as_problems(found) == found
    assert [p.gold["answer"] for p in found[2:6]] == ["2", "21", "5", "7"]
    assert found[6].family == "countdown" and found[6].gold == {"numbers": [1, 2], "target": 3}
    assert [p.problem_id for p in found[2:]] == [f"row/{i}" for i in range(3, 8)]
    assert "row 2" in complaint(as_problems, [made, {"prompt": "1"}])
    assert "row 1" in complaint(as_problems, ["1 + 1"])
    assert "read_problems" in complaint(as_problems, "gsm8k")
    assert "at least one" in complaint(as_problems, [])


def test_another_data_set_is_one_entry(tmp_path, monkeypatch):
    added = DataSet("someone/quiz", {"train": "*.jsonl"}, ("prompt", "label"), str.upper)
    monkeypatch.setitem(DATA_SETS, "quiz", added)
    assert golds(jsonl(tmp_path / "quiz.jsonl", [{"prompt": "which ?", "label": "b"}])) == ["B"]
