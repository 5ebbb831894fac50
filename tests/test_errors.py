"""Bad input gives one clear line that names value, rule and next step, and loses nothing."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import VARIED

from r1lite import __main__ as command_line
from r1lite.config import PRESETS, RunConfig, SftConfig, preset, settings_without_effect
from r1lite.learn import train
from r1lite.policy.load import load_policy
from r1lite.records import Problem, UserError
from r1lite.runlog import read_jsonl
from r1lite.world import clusters, family_module, make_problems, read_problems

GOOD_ROW = {
    "problem_id": "mine/1",
    "family": "countdown",
    "cluster": "3-4-6",
    "language": "en",
    "question": "make 21 from 3 4 6 .",
    "gold": {"numbers": [3, 4, 6], "target": 21},
}


def complaint(function, *args, **kwargs) -> str:
    """The message of the UserError; it has to be one line and to say more than a name."""
    with pytest.raises(UserError) as caught:
        function(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message and len(message) > 30
    assert message.endswith((".", "?")), message
    return message


def run(cfg, **kwargs):
    return train(cfg, rewards=VARIED, progress=False, **kwargs)


def test_an_unknown_preset():
    message = complaint(preset, "huge")
    assert "'huge'" in message and "tiny" in message and "paper" in message


@pytest.mark.parametrize(
    ("wrong", "right"), [("learning_rates", "learning_rate"), ("n_problem", "n_problems")]
)
def test_an_unknown_field_suggests_the_nearest(wrong, right):
    assert f"Did you mean {right!r}?" in complaint(preset, "tiny", **{wrong: 1})
    assert "learning_rate" in complaint(preset, "tiny", zzz=1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("group_size", 0),
        ("group_size", 2.5),
        ("n_problems", 0),
        ("n_problems", "32"),
        ("max_new_tokens", 0),
        ("temperature", 0),
        ("temperature", None),
        ("learning_rate", -1),
        ("learning_rate", 2.0),
        ("learning_rate", float("nan")),
        ("max_grad_norm", float("inf")),
        ("clip_epsilon", -0.1),
        ("beta", -1),
        ("steps", 0),
        ("checkpoint_every", 0),
        ("micro_batch_tokens", 0),
        ("fast", "yes"),
        ("objective", "ppo"),
        ("dtype", "int8"),
        ("advantage_scale", "mean"),
    ],
)
def test_a_field_out_of_range(field, value):
    message = complaint(preset, "tiny", **{field: value})
    assert f"{field}={value!r}" in message and "must be" in message and "Set " in message


def test_fields_that_do_not_fit_together():
    assert "256" in complaint(preset, "tiny", n_minibatches=3)
    message = complaint(preset, "tiny", n_minibatches=2, inner_epochs=2, steps=10)
    assert "steps=10" in message and "4" in message


def test_the_papers_settings_are_the_papers():
    paper = preset("paper")
    assert (paper.learning_rate, paper.beta, paper.clip_epsilon) == (3e-6, 0.001, 10.0)
    assert (paper.group_size, paper.reference_every, paper.temperature) == (16, 400, 1.0)
    assert paper.n_problems * paper.group_size / paper.n_minibatches == 32 * 16
    assert paper.template == "r1-zero"


def test_unknown_families_and_splits():
    assert "'sudoku'" in complaint(family_module, "sudoku")
    assert "'test'" in complaint(clusters, "countdown", "test")
    assert "at most" in complaint(make_problems, "chat", "held_out", 200)


@pytest.mark.parametrize("missing", Problem.REQUIRED)
def test_a_problem_with_a_missing_key(tmp_path, missing):
    rows = [GOOD_ROW, {k: v for k, v in GOOD_ROW.items() if k != missing}]
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    message = complaint(read_problems, path)
    assert "row 2" in message and str(path) in message and f"lacks {missing}" in message


@pytest.mark.parametrize("gold", [{"numbers": [1, 2, 3]}, {"target": 6}, {}, "6", None])
def test_a_problem_whose_gold_cannot_be_checked(tmp_path, gold):
    path = tmp_path / "problems.jsonl"
    path.write_text(json.dumps(GOOD_ROW | {"gold": gold}) + "\n")
    message = complaint(read_problems, path)
    assert "row 1" in message and "gold lacks" in message and "countdown" in message


def test_a_good_file_of_problems_trains(cfg, tmp_path):
    path = tmp_path / "problems.jsonl"
    path.write_text(json.dumps(GOOD_ROW) + "\n\n")
    assert read_problems(path) == [Problem(**GOOD_ROW)]
    assert len(run(cfg.change(problems=str(path), steps=1)).logs) == 1


@pytest.mark.parametrize("bad", ['{"problem_id": "x", "fam', "not json", "[1, 2]", "7"])
def test_a_corrupt_row_is_named_by_its_line(tmp_path, bad):
    path = tmp_path / "problems.jsonl"
    path.write_text(f"{json.dumps(GOOD_ROW)}\n\n{bad}\n{json.dumps(GOOD_ROW)}\n")
    message = complaint(read_problems, path)
    assert "line 3" in message and str(path) in message and bad[:20] in message


def test_files_that_are_missing_or_empty(cfg, tmp_path):
    assert "no.jsonl" in complaint(run, cfg.change(problems=str(tmp_path / "no.jsonl")))
    (tmp_path / "empty.jsonl").write_text("\n")
    assert "holds no problems" in complaint(read_problems, tmp_path / "empty.jsonl")
    assert "no.jsonl" in complaint(read_jsonl, tmp_path / "no.jsonl")


@pytest.mark.parametrize("model", ["data/no-such-base", "./nowhere", "no-such-model/at-all"])
def test_an_unknown_model(cfg, model):
    message = complaint(run, cfg.change(model=model))
    assert model in message and "r1lite base" in message


def test_a_damaged_model_folder(cfg, mini_folder, tmp_path):
    shutil.copytree(mini_folder, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    message = complaint(load_policy, str(tmp_path / "model"))
    assert "could not be loaded" in message and "git" in message


def test_a_prompt_longer_than_the_context(cfg):
    message = complaint(run, cfg.change(max_new_tokens=128))
    assert "128" in message and "Lower max_new_tokens" in message
    assert len(run(cfg.change(steps=1)).logs) == 1  # the same folder can be used at once


def test_an_unknown_template(cfg):
    assert "'r2'" in complaint(run, cfg.change(template="r2"))


def finished_run(cfg) -> Path:
    """Two checkpoints, at 3 and 6."""
    run(cfg)
    folder = Path(cfg.run_dir)
    assert len(list(folder.glob("checkpoint-*"))) == 2
    return folder


FILES = ["model.safetensors", "optimizer.pt", "config.json", "tokenizer.json", "state.json"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["truncated", "missing", "altered"])
def test_a_broken_checkpoint_gives_way_to_an_older_one(cfg, capfd, file, damage):
    folder = finished_run(cfg)
    weights = (folder / "final" / "model.safetensors").read_bytes()
    target = folder / "checkpoint-000006" / file
    whole = target.read_bytes()
    if damage == "truncated":
        target.write_bytes(whole[: len(whole) // 2])
    elif damage == "missing":
        target.unlink()
    elif file == "state.json":
        target.write_text("{}")
    else:
        target.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    result = run(cfg)
    said = "".join(capfd.readouterr())
    assert "warning" in said and "checkpoint-000006" in said and file in said
    assert [log.step for log in result.logs] == [1, 2, 3, 4, 5, 6]
    assert (folder / "final" / "model.safetensors").read_bytes() == weights


def test_no_whole_checkpoint_is_an_error_that_touches_nothing(cfg):
    folder = finished_run(cfg)
    for checkpoint in folder.glob("checkpoint-*"):
        (checkpoint / "optimizer.pt").write_bytes(b"half")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    message = complaint(run, cfg)
    assert "optimizer.pt" in message and "checkpoint-000003" in message and "delete" in message
    assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "change", [{"learning_rate": 1e-2}, {"seed": 5}, {"group_size": 6}, {"beta": 0.1}]
)
def test_resuming_with_other_settings_is_refused(cfg, change):
    folder = finished_run(cfg)
    log = (folder / "metrics.jsonl").read_bytes()
    message = complaint(run, cfg.change(steps=9, **change))
    (name, value), = change.items()  # fmt: skip
    assert f"{name}: {getattr(cfg, name)!r} then, {value!r} now" in message and "run_dir" in message
    assert (folder / "metrics.jsonl").read_bytes() == log
    assert len(run(cfg.change(steps=9)).logs) == 9


def test_every_message_on_the_command_line_is_one_line(capsys):
    for words in (
        ["zero", "--preset", "huge"],
        ["zero", "--group-size", "0"],
        ["zero", "--family", "sudoku"],
        ["zeros"],
        ["evaluate", "--family", "sudoku"],
        ["record", "nothing"],
    ):
        assert command_line.main(words) == 2
        said = capsys.readouterr().err
        assert said.startswith("r1lite: ") and said.count("\n") == 1


@pytest.mark.parametrize("verb", command_line.VERBS)
def test_help_is_there_for_every_verb(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        command_line.main([verb, "--help"])
    assert ended.value.code == 0
    said = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "usage:" in said
    for config in {"zero": [RunConfig], "evaluate": [RunConfig], "sft": [SftConfig]}.get(verb, []):
        for name in config.__dataclass_fields__:
            flag = f"--{name.replace('_', '-')}"
            assert re.search(rf"{flag} [^()]*?[a-z]{{2,}} [^()]*\(", said), f"{flag}: no sentence"


def test_a_flag_of_yes_and_no_means_what_it_says():
    """`--dynamic-sampling False` was once True."""
    for word, value in (("False", False), ("True", True)):
        asked = command_line.parse("zero", ["--dynamic-sampling", word, "--preset", "24gb"])
        assert asked.cfg.dynamic_sampling is value and asked.cfg.sampler == "vllm"
    with pytest.raises(SystemExit):
        command_line.parse("zero", ["--dynamic-sampling"])


def test_a_misspelt_flag_or_verb_gets_the_nearest(capsys):
    with pytest.raises(SystemExit):
        command_line.main(["zero", "--learning-rat", "0.1"])
    assert "--learning-rate" in capsys.readouterr().err
    assert command_line.main(["evalute"]) == 2
    assert "Did you mean 'evaluate'?" in capsys.readouterr().err


def test_help_does_not_wait_for_torch():
    code = (
        "import sys\n"
        "from r1lite.__main__ import main\n"
        "assert main(['--help']) == 0\n"
        "try:\n    main(['zero', '--help'])\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_name_hides_a_folder_of_the_library():
    import r1lite

    folders = {path.name for path in Path(r1lite.__file__).parent.iterdir() if path.is_dir()}
    assert not folders & set(r1lite.__all__)
    assert all(getattr(r1lite, name) is not None for name in r1lite.__all__)
    assert set(r1lite.__all__) <= set(dir(r1lite))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        r1lite.nonsense  # noqa: B018


@pytest.mark.parametrize(
    ("changes", "idle"),
    [
        ({"clip_epsilon": 0.2}, "clip_epsilon"),
        ({"clip_epsilon": 0.2, "n_minibatches": 2}, ""),
        ({"lora_rank": 8}, "lora_rank"),
        ({"lora_rank": 8, "tuning": "lora"}, ""),
        ({"kl_estimator": "k1"}, "kl_estimator"),
        ({"kl_estimator": "k1", "beta": 0.1}, ""),
        ({"engine_url": "http://x"}, "engine_url"),
    ],
)
def test_a_setting_that_changes_nothing_is_named(changes, idle):
    sentences = settings_without_effect(preset("tiny", **changes))
    assert len(sentences) == bool(idle)
    assert all(f"{idle}=" in sentence and "changes nothing" in sentence for sentence in sentences)


@pytest.mark.parametrize("name", PRESETS)
def test_no_preset_has_a_setting_without_effect(name):
    assert not settings_without_effect(preset(name))


def test_records_are_frozen(cfg):
    with pytest.raises(AttributeError):
        cfg.seed = 3
    assert replace(cfg, seed=3).seed == 3


def test_a_device_that_is_not_there(mini_folder):
    message = complaint(load_policy, mini_folder, device="gpu")
    assert "device='gpu'" in message and "Set device=" in message
