"""Places: folders that are not r1lite's, cannot be written to, or were changed by hand."""

import errno
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import VARIED
from test_errors import complaint

from r1lite import __main__ as command_line
from r1lite.config import preset
from r1lite.lab import bench
from r1lite.learn import Every, checkpoint, models, train
from r1lite.policy import hub, load_policy, save_policy
from r1lite.records import UserError
from r1lite.runlog import atomic_path, remove_leftovers, write_json
from r1lite.stages.held_out import HeldOut, sample_for_eval
from r1lite.stages.zero import run_zero
from r1lite.world import make_problems

REPO = Path(__file__).resolve().parents[1]


def run(cfg, **how):
    return train(cfg, rewards=VARIED, progress=False, **how)


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, but for the lock."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


FOREIGN = {
    "a model": {"final/model.safetensors": "mine"},
    "a log": {"metrics.jsonl": '{"step": 900}\n'},
    "a note": {".notes.tmp": "mine"},
    "checkpoints": {"checkpoint-000002/pytorch_model.bin": "mine", "checkpoint-best/x": "mine"},
    "another program's run.json": {"run.json": '{"name": "theirs"}', "final/x": "mine"},
    "a list in run.json": {"run.json": "[1, 2]"},
    "no JSON in run.json": {"run.json": "name: theirs"},
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_folder_that_r1lite_did_not_make_is_refused_and_left_as_it_is(cfg, kind):
    folder = Path(cfg.run_dir)
    for name, text in FOREIGN[kind].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    before = content(folder)
    message = complaint(run, cfg.change(steps=1))
    assert str(folder) in message and content(folder) == before


@pytest.mark.parametrize("left", [[], [".lock"], [".lock", ".run.json.0123abcd.tmp"]])
def test_what_a_start_that_was_killed_leaves_counts_as_new(cfg, left):
    folder = Path(cfg.run_dir)
    folder.mkdir()
    for name in left:
        (folder / name).write_text("")
    assert len(run(cfg.change(steps=1)).logs) == 1


def test_only_names_that_r1lite_gives_are_its_own(cfg):
    """In a run's own folder a learner keeps a copy, another program its best, an editor a file."""
    run(cfg.change(steps=3))
    folder = Path(cfg.run_dir)
    kept = ["checkpoint-best", "checkpoint-000002-copy", "checkpoint-999", "checkpoint-0000001"]
    for name in kept:
        shutil.copytree(folder / "checkpoint-000003", folder / name)
    (folder / ".notes.tmp").write_text("mine")
    (folder / ".draft.0123abcd.tmp.swp").write_text("mine")
    assert [log.step for log in run(cfg.change(steps=9)).logs] == list(range(1, 10))
    names = {path.name for path in folder.iterdir()}
    assert {*kept, ".notes.tmp", ".draft.0123abcd.tmp.swp"} <= names
    assert {"checkpoint-000006", "checkpoint-000009"} <= names and "checkpoint-000003" not in names


def test_checkpoints_are_in_the_order_of_their_steps(tmp_path):
    for step in (20, 1_000_000, 999_999):
        (tmp_path / f"checkpoint-{step:06d}").mkdir()
    steps = [int(path.name[11:]) for path in checkpoint.checkpoints(tmp_path)]
    assert steps == [20, 999_999, 1_000_000]


@pytest.mark.parametrize("text", ["[1]", '"x"', "{}", '{"step": 6, "files": 7}', "null", "\xff"])
def test_a_state_json_of_another_shape_is_a_damaged_checkpoint(cfg, capfd, text):
    run(cfg)
    state = Path(cfg.run_dir) / "checkpoint-000006" / "state.json"
    state.write_bytes(text.encode("latin-1"))
    assert len(run(cfg).logs) == 6
    assert "state.json is damaged" in "".join(capfd.readouterr())


@pytest.mark.parametrize("step", [3, "6", None, 6.5])
def test_a_state_json_of_another_step_is_a_damaged_checkpoint(cfg, step):
    run(cfg)
    state = Path(cfg.run_dir) / "checkpoint-000006" / "state.json"
    write_json(state, json.loads(state.read_text()) | {"step": step})
    assert f"step {step!r}" in checkpoint.damage(state.parent)


@pytest.mark.parametrize(
    "row", [{"step": 2, "loss": "low"}, {"step": 2, "seconds": {"step": "one"}}, {"loss": 1.0}]
)
def test_a_log_with_words_for_numbers_is_one_line(cfg, row):
    run(cfg.change(steps=3))
    path = Path(cfg.run_dir) / "metrics.jsonl"
    rows = path.read_text().splitlines()
    path.write_text("\n".join([rows[0], json.dumps(row), rows[2]]) + "\n")
    message = complaint(run, cfg)
    assert "row 2" in message and str(path) in message


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json", "model.safetensors"])
def test_another_model_in_the_same_folder_is_another_run(cfg, mini_folder, tmp_path, file):
    model = tmp_path / "model"
    shutil.copytree(mini_folder, model)
    cfg = cfg.change(model=str(model))
    run(cfg.change(steps=2))
    whole = (model / file).read_bytes()
    (model / "README.md").write_text("what a reader adds changes nothing")
    assert len(run(cfg.change(steps=3)).logs) == 3
    at = len(whole) - 3 if file == "model.safetensors" else whole.index(b"<unk>")
    (model / file).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert "other model" in complaint(run, cfg)
    (model / file).write_bytes(whole)
    assert len(run(cfg.change(steps=4)).logs) == 4


def test_a_run_of_before_models_were_noted_goes_on(cfg):
    run(cfg.change(steps=2))
    path = Path(cfg.run_dir) / "run.json"
    told = json.loads(path.read_text())
    del told["identity"]["model"]
    write_json(path, told)
    assert len(run(cfg).logs) == 6
    assert "model" in json.loads(path.read_text())["identity"]


def test_the_final_model_has_digests_and_loads(cfg):
    run(cfg)
    final = Path(cfg.run_dir) / "final"
    assert checkpoint.damage(final) == ""
    assert load_policy(str(final), device="cpu").max_length == 128
    (final / "tokenizer.json").write_text("{}")
    assert "tokenizer.json" in checkpoint.damage(final)


def test_a_file_is_synced_through_a_handle_for_writing(tmp_path, monkeypatch):
    """Windows refuses to sync a handle that was opened for reading: EBADF."""
    fcntl = pytest.importorskip("fcntl", reason="asks POSIX how a file was opened")
    real, synced = os.fsync, []

    def fsync(descriptor):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        synced.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_json(tmp_path / "a.json", {"a": 1})
    with atomic_path(tmp_path / "folder") as temporary:
        (temporary / "deep").mkdir(parents=True)
        (temporary / "deep" / "file").write_text("x")
        (temporary / "deep" / "file").chmod(0o444)
    assert len(synced) == 2 and (tmp_path / "folder" / "deep" / "file").read_text() == "x"


def test_leftovers_are_what_atomic_path_was_writing(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "x") as temporary:
        name = temporary.name
        raise KeyboardInterrupt
    for other in (name, name.replace(".tmp", ".old.tmp"), ".mine.tmp", "x.tmp"):
        (tmp_path / other).write_text("")
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.tmp", "x.tmp"]


def a_file(path):
    path.write_text("")


def a_link_to_itself(path):
    path.symlink_to(path)


@pytest.mark.parametrize("make", [a_file, a_link_to_itself])
def test_a_run_folder_that_is_no_folder_is_one_line(cfg, tmp_path, make):
    place = tmp_path / "place"
    make(place)
    for run_dir in (place, place / "below"):
        assert str(run_dir) in complaint(run, cfg.change(run_dir=str(run_dir)))


def test_a_place_that_cannot_be_written_to_is_one_line(cfg, tmp_path, monkeypatch):
    if Path("/proc/self").exists():  # where nobody may make a folder
        assert "run_dir=" in complaint(run, cfg.change(run_dir="/proc/r1lite/run"))

    def refused(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "touch", refused)
    assert "Permission denied" in complaint(run, cfg)
    a_file(tmp_path / "file")
    assert "could not be written" in complaint(write_json, tmp_path / "file" / "x.json", {})


SENSELESS = {
    "k": ["evaluate", "-k", "0"],
    "n_held_out": ["evaluate", "--n-held-out", "-1"],
    "rounds": ["bench", "--ladder", "--rounds", "0"],
    "steps": ["bench", "--steps", "-1"],
    "gpus": ["plan", "--memory", "8", "--gpus", "-2"],
    "memory": ["plan", "--memory", "-3"],
    "memory=nan": ["plan", "--memory", "nan"],
    "memory=inf": ["plan", "--memory", "inf"],
    "prompt_tokens": ["plan", "--memory", "8", "--prompt-tokens", "0"],
    "eval_every": ["zero", "--eval-every", "0"],
    "eval_every=-5": ["zero", "--eval-every", "-5"],
}


@pytest.mark.parametrize("what", SENSELESS)
def test_a_number_without_sense_is_one_line_and_nothing_is_begun(
    what, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    assert command_line.main(SENSELESS[what]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{what.split('=')[0]}=" in said
    assert "must be" in said and "Set " in said and not list(tmp_path.iterdir())


def test_numbers_without_sense_in_a_notebook(cfg, mini):
    assert "k=0" in complaint(sample_for_eval, mini, cfg, [], k=0)
    assert "every=0" in complaint(HeldOut, cfg, [], every=0)
    assert "eval_every=0" in complaint(run_zero, cfg, eval_every=0)
    assert "n=0" in complaint(Every, 0, print)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_model_without_numbers_is_not_measured(mini, cfg, tmp_path, capsys, bad):
    with torch.no_grad():
        next(mini.model.parameters()).view(-1)[5] = bad
    save_policy(mini, tmp_path / "model")
    words = ["evaluate", "--model", str(tmp_path / "model"), "--device", "cpu", "--n-held-out", "2"]
    assert command_line.main([*words, "--max-new-tokens", "16"]) == 2
    said = capsys.readouterr().err
    assert "NaN" in said and said.count("\n") == 1


def test_a_final_model_that_was_changed_is_not_measured(cfg, capsys):
    run(cfg.change(steps=1))
    final = Path(cfg.run_dir) / "final"
    whole = (final / "model.safetensors").read_bytes()
    (final / "model.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert command_line.main(["evaluate", "--model", str(final), "--device", "cpu"]) == 2
    assert "model.safetensors is truncated or altered" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, recorded",
    [
        ([], True),
        (["--ladder"], True),
        (["--steps", "2"], False),
        (["--ladder", "--rounds", "1"], False),
        (["--model", "data/tiny-base"], False),
        (["--device", "auto"], False),
    ],
)
def test_bench_keeps_the_tracked_record_for_the_recorded_settings(
    words, recorded, monkeypatch, tmp_path, capsys
):
    kept = []
    monkeypatch.setattr(bench, "ladder", lambda cfg, rounds: {})
    monkeypatch.setattr(bench, "bench", lambda cfg: {})
    monkeypatch.setattr(bench, "keep", lambda part, value, cfg, path: kept.append(path))
    assert command_line.main(["bench", *words]) == 0
    assert kept == [bench.RESULT if recorded else Path("runs/bench.json")]
    assert str(kept[0]) in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["zero", "evaluate"])
def test_a_preset_of_a_gpu_without_one_asks_for_the_cpu(verb, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("16gb", "80gb", "paper"):
        assert command_line.main([verb, "--preset", name]) == 2
        said = capsys.readouterr().err
        assert name in said and "on the CPU" in said and "--device cpu" in said
        assert said.count("\n") == 1


@pytest.mark.parametrize(
    "words, package",
    [
        (["--preset", "80gb", "--device", "cpu"], "vllm"),
        (["--preset", "16gb", "--device", "cpu"], "bitsandbytes"),
        (["--optimizer", "adamw_8bit"], "bitsandbytes"),
    ],
)
def test_what_is_missing_is_named_before_anything_is_fetched(words, package, capsys, monkeypatch):
    def fetched(*args, **kwargs):
        raise AssertionError("asked the network")

    real = models.importlib.util.find_spec
    monkeypatch.setattr(
        models.importlib.util, "find_spec", lambda name: None if name == package else real(name)
    )
    monkeypatch.setattr(socket, "create_connection", fetched)
    monkeypatch.setattr("r1lite.stages.zero.eval_problems", fetched)
    assert command_line.main(["zero", *words]) == 2
    said = capsys.readouterr().err
    assert f"needs {package}" in said and f"pip install {package}" in said
    # and in a notebook, where train is called
    monkeypatch.setattr(models, "load_policy", fetched)
    changes = {"sampler": "vllm"} if package == "vllm" else {"optimizer": "adamw_8bit"}
    with pytest.raises(UserError, match=f"needs {package}"):
        models.load_for(preset("tiny", **changes))


class Silent:
    """A network that swallows everything, as a firewall does: worse than one that is not there."""

    def __init__(self, monkeypatch):

        def wait(*args, **kwargs):
            time.sleep(60)
            raise OSError

        for name in ("create_connection", "getaddrinfo"):
            monkeypatch.setattr(socket, name, wait)
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HTTPS_PROXY", "https_proxy"):
            monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("verb", ["zero", "evaluate", "plan"])
def test_a_name_on_the_hub_without_network_is_one_line_soon(verb, monkeypatch, tmp_path, capsys):
    import transformers  # noqa: F401  # whose import is not what is timed

    Silent(monkeypatch)
    begun = time.monotonic()
    words = ["--model", "nobody/no-such-model", "--run-dir", str(tmp_path / "run")]
    assert command_line.main([verb, *words, *(["--memory", "8"] if verb == "plan" else [])]) == 2
    assert time.monotonic() - begun < 5
    said = capsys.readouterr().err
    assert "nobody/no-such-model" in said and said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_folder_and_what_is_in_the_cache_need_no_network(monkeypatch, mini_folder):
    Silent(monkeypatch)
    monkeypatch.setattr(hub, "_answers", lambda *place: pytest.fail("it was asked"))
    for name in (mini_folder, "data/tiny-base", "runs/nowhere", ""):
        hub.check_network(name)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a: "/cache/config.json")
    hub.check_network("nobody/no-such-model")


@pytest.mark.parametrize("code, goes_on", [(200, True), (404, True), (407, False), (502, False)])
def test_a_hub_that_answers_is_asked_and_a_proxy_that_leads_nowhere_is_not(
    monkeypatch, code, goes_on
):
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(code)
            self.end_headers()

        def log_message(self, *args):
            pass

    for name in ("HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        if goes_on:
            hub.check_network("nobody/no-such-model")
        else:
            assert "does not answer" in complaint(hub.check_network, "nobody/no-such-model")
        server.shutdown()


@pytest.mark.parametrize("words", [["--help"], ["zero", "--help"]])
def test_help_answers_within_a_second(words):
    """Of its own time on the processor: others may be at work beside it. No network, no torch."""
    resource = pytest.importorskip("resource", reason="measures as POSIX does")
    code = (
        "import socket, sys\n"
        "def no(*a, **k): raise OSError('network')\n"
        "socket.socket.connect = socket.getaddrinfo = no\n"
        "from r1lite.__main__ import main\n"
        f"try: main({words!r})\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


def test_without_the_modules_of_posix_everything_imports_that_trains_and_measures():
    """Windows has none of them; a run there was never tried."""
    code = (
        "import sys\n"
        "for name in ('resource', 'fcntl', 'pwd', 'grp', 'termios', 'pyseccomp', 'syslog'):\n"
        "    sys.modules[name] = None\n"
        "import r1lite.learn, r1lite.stages.zero, r1lite.stages.base, r1lite.lab.report\n"
        "import r1lite.lab.bench, r1lite.lab.check, r1lite.verbs\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO)
    assert done.returncode == 0, done.stderr


def test_what_a_shell_or_a_scheduler_leaves_in_a_folder_is_in_nobodys_way(cfg):
    """`| tee runs/x/log.txt` makes the file before the run begins."""
    folder = Path(cfg.run_dir)
    folder.mkdir(parents=True)
    for name in ("log.txt", "slurm-1.out", ".DS_Store"):
        (folder / name).write_text("mine")
    run(cfg.change(steps=1))
    assert (folder / "log.txt").read_text() == "mine" and (folder / "final").exists()


def test_an_error_is_seen_also_where_saving_after_it_fails_too(cfg, monkeypatch):
    """As with a broken device: nothing of it can be written then, and the first error tells why."""

    def broken(completions, **columns):
        raise RuntimeError("an illegal memory access")

    def pay(completions, calls=[], **columns):  # noqa: B006
        calls.append(1)
        return broken(completions) if len(calls) > 2 else [float(len(c)) for c in completions]

    monkeypatch.setattr(
        "r1lite.learn.run.save_checkpoint", lambda *a: (_ for _ in ()).throw(UserError("disk"))
    )
    with pytest.raises(UserError, match="an illegal memory access"):
        train(cfg, rewards={"accuracy": pay, "format": VARIED["format"]}, progress=False)


def test_held_out_problems_that_do_not_fit_are_left_out_as_in_training(cfg, mini, capsys):
    problems = make_problems("countdown", "held_out", 3)
    longer = replace(problems[0], problem_id="long", question=" ".join(["3"] * 120))
    hook = HeldOut(cfg, [*problems, longer], every=1, k=2)
    Path(cfg.run_dir).mkdir(parents=True)
    hook(mini, 0, Path(cfg.run_dir))
    (row,) = hook.rows(Path(cfg.run_dir)).values()
    assert row["n_problems"] == 3 and "1 of 4 problems are left out" in "".join(capsys.readouterr())
