"""The harness: who a run is, one writer a folder, hooks, and what a run leaves."""

import functools
import inspect
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from conftest import VARIED, word_reward

import r1lite
from r1lite.config import RunConfig
from r1lite.learn import Every, identity, models, train
from r1lite.learn.identity import digest, function_name, identity_of
from r1lite.policy import load_policy
from r1lite.records import UserError
from r1lite.world import make_problems


def run(cfg, **how):
    return train(cfg, progress=False, **{"rewards": VARIED} | how)


def short(prompts, completions, **columns):
    return [1.0 / (1 + len(text)) for text in completions]


def pull(logps, batch, cfg):
    """A loss of one's own: REINFORCE on whatever the advantages are."""
    return -(logps * batch.advantages * batch.response_mask).sum(-1)


def centred(rewards):
    return rewards - rewards.mean(1, keepdim=True)


OTHERS = {
    "other rewards": {"rewards": {"short": short}},
    "other problems": {"problems": make_problems("countdown", "train", 4)},
    "other loss": {"loss": pull},
    "other advantages": {"advantages": centred},
}


@pytest.mark.parametrize("words", OTHERS)
def test_another_arm_in_the_same_folder_is_refused_by_name(cfg, words):
    """It used to give back the first arm's weights, with no log and no word."""
    run(cfg.change(steps=2))
    with pytest.raises(UserError, match=f"holds another run.*{words}.*run_dir="):
        run(cfg.change(steps=2), **OTHERS[words])


def test_another_setting_is_refused_by_name_and_a_longer_run_is_the_same_run(cfg):
    run(cfg.change(steps=2))
    with pytest.raises(UserError, match="clip_epsilon: 10.0 then, 0.2 now"):
        run(cfg.change(clip_epsilon=0.2))
    with pytest.raises(UserError, match="temperature: 1.0 then, 0.5 now"):
        run(cfg.change(temperature=0.5))
    assert len(run(cfg.change(steps=3)).logs) == 3


def test_arms_without_a_folder_get_one_each(cfg, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    cfg = cfg.change(run_dir="", steps=1)
    results = [run(cfg), *(run(cfg, **how) for how in OTHERS.values()), run(cfg.change(seed=3))]
    folders = {result.run_dir for result in results}
    assert len(folders) == len(results) and all(len(result.logs) == 1 for result in results)
    assert all(folder.parent == Path("runs") and "zero-" in folder.name for folder in folders)
    assert run(cfg).run_dir == results[0].run_dir, "and the same run finds its folder again"
    for folder in folders:
        told = json.loads((folder / "run.json").read_text())["identity"]
        assert folder.name == f"zero-{told['hash'][:8]}"


def test_a_new_setting_with_a_default_leaves_older_runs_what_they_are():
    @dataclass(frozen=True)
    class Later(RunConfig):
        invented_later: float = 0.5

    assert identity_of(Later(beta=0.1)) == identity_of(RunConfig(beta=0.1))
    assert identity_of(Later(invented_later=0.6))["hash"] != identity_of(RunConfig())["hash"]


def test_a_function_is_known_by_what_it_computes():
    def paying(n):
        return lambda completions: [n for _ in completions]

    assert function_name(paying(1)) == function_name(paying(1)) != function_name(paying(2))
    assert function_name(short) != function_name(word_reward)
    half = functools.partial(short, limit=1)
    assert function_name(half) != function_name(functools.partial(short, limit=2))

    class Judge:
        def __init__(self, level):
            self.level = level

        def __call__(self, completions):
            return [self.level] * len(completions)

    assert function_name(Judge(1)) == function_name(Judge(1)) != function_name(Judge(2))
    assert function_name(Judge(1).__call__) == function_name(Judge(1).__call__)
    assert function_name(train) == "r1lite.learn.grpo.train", "ours by its name: it may be edited"


def test_a_digest_does_not_depend_on_where_in_memory_things_are():
    script = (
        "from r1lite.learn.identity import digest\n"
        "class A: pass\n"
        "print(digest([A(), {'b': [1, 2.5, None]}, {3, 1}, lambda x: x + 1]))"
    )
    runs = [subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
            for _ in range(2)]  # fmt: skip
    assert runs[0].stdout == runs[1].stdout != "", runs[0].stderr
    assert digest(torch.ones(2)) != digest(torch.zeros(2))


def test_an_older_folder_is_named_as_such(cfg):
    folder = Path(cfg.run_dir)
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"stage": "zero"}')
    (folder / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(UserError, match="older version"):
        run(cfg)


def test_a_folder_has_one_writer(cfg):
    """A second process, or a second cell beside a run in a thread, would tear the log."""

    def second(log):
        with pytest.raises(UserError, match="in use by another process.*run_dir="):
            run(cfg.change(steps=3))

    assert len(run(cfg.change(steps=3), on_step=second).logs) == 3
    assert len(run(cfg.change(steps=4)).logs) == 4, "and it is free afterwards"


def test_a_failed_start_frees_the_folder(cfg):
    with pytest.raises(UserError, match="no model"):
        run(cfg.change(model="runs/nowhere"))
    assert len(run(cfg.change(steps=1)).logs) == 1, "and what was not begun is no other run"


def test_an_evaluation_is_a_hook_and_nothing_is_loaded_again(cfg, monkeypatch):
    loaded, seen, real = [], [], models.load_policy
    monkeypatch.setattr(models, "load_policy", lambda *a, **k: loaded.append(a) or real(*a, **k))
    hook = Every(2, lambda policy, step: seen.append((step, weight(policy))))

    def weight(policy):
        return next(policy.model.parameters()).detach().sum().item()

    result = run(cfg, hooks=[hook])
    assert [step for step, _ in seen] == [0, 2, 4, 6] and len(loaded) == 1
    assert seen[0][1] == weight(load_policy(cfg.model, device="cpu"))
    assert seen[-1][1] == weight(result.policy) != seen[0][1]


def test_a_hook_is_asked_again_at_the_step_that_a_run_goes_on_from(cfg):
    seen = []
    run(cfg.change(steps=3), hooks=[Every(3, lambda policy, step: seen.append(step))])
    run(cfg, hooks=[Every(3, lambda policy, step: seen.append(step))])
    assert seen == [0, 3, 3, 6]


def test_what_a_run_leaves_is_short_to_read_and_has_every_log(cfg):
    run(cfg.change(steps=2))
    result = run(cfg)
    assert [log["step"] for log in result.logs] == [1, 2, 3, 4, 5, 6]
    assert "\n" not in repr(result) and len(repr(result)) < 200 and "6 updates" in repr(result)
    assert result.logs[0].loss == result.logs[0]["loss"]
    with pytest.raises(AttributeError, match="no 'lose'; it has step"):
        result.logs[0].lose  # noqa: B018


def test_every_number_of_the_log_is_documented(cfg):
    from r1lite.records import METRICS

    (log,) = run(cfg.change(steps=1, beta=0.1)).logs
    unknown = [name for name in log if name not in METRICS and not name.startswith("reward/")]
    assert not unknown and {"loss", "kl", "sampler_gap", "seconds"} <= set(log)


def test_a_policy_in_memory_is_trained_as_a_copy(cfg):
    policy = load_policy(cfg.model, device="cpu")
    before = {k: v.clone() for k, v in policy.model.state_dict().items()}
    first = run(cfg.change(run_dir=""), policy=policy)
    assert all(torch.equal(v, before[k]) for k, v in policy.model.state_dict().items())
    moved = next(first.policy.model.parameters())
    assert not torch.equal(moved, next(policy.model.parameters()))
    from_folder = run(cfg)
    for a, b in zip(first.policy.model.parameters(), from_folder.policy.model.parameters()):
        assert torch.equal(a, b)
    second = run(cfg.change(run_dir=""), policy=first.policy)
    assert second.run_dir != first.run_dir, "other weights are another run"


def test_a_policy_in_memory_is_resumed_from_its_checkpoint(cfg, tmp_path):
    policy = load_policy(cfg.model, device="cpu")
    halves = cfg.change(run_dir=str(tmp_path / "halves"))
    run(halves.change(steps=3), policy=policy)
    resumed, whole = run(halves, policy=policy), run(cfg, policy=policy)
    for a, b in zip(resumed.policy.model.parameters(), whole.policy.model.parameters()):
        assert torch.equal(a, b)


def test_an_own_loss_and_own_advantages_train(cfg):
    plain = run(cfg.change(run_dir="", steps=2, warmup_steps=0))
    own = run(cfg.change(run_dir="", steps=2, warmup_steps=0), loss=pull, advantages=centred)
    assert own.logs[0].grad_norm > 0 and own.logs[0].grad_norm != plain.logs[0].grad_norm
    ones = run(cfg.change(run_dir="", steps=1), advantages=lambda rewards: rewards * 0 + 1.0)
    assert ones.logs[0].grad_norm > 0, "equal advantages are no reason to skip a group"

    def per_token(rewards, groups):
        """Only the first token of every answer is worth anything."""
        return [[[1.0] + [0.0] * (len(c.token_ids) - 1) for c in g.completions] for g in groups]

    first = run(cfg.change(run_dir="", steps=1), advantages=per_token)
    assert first.logs[0].grad_norm > 0
    with pytest.raises(ValueError, match="one value for each of the"):
        run(cfg.change(run_dir="", steps=1), loss=lambda logps, batch, cfg: logps.sum())
    with pytest.raises(UserError, match="got 1 advantages"):
        run(
            cfg.change(run_dir="", steps=1),
            advantages=lambda rewards, groups: [[[1.0] for _ in g.completions] for g in groups],
        )


def test_a_setting_without_effect_is_said(cfg, capfd):
    run(cfg.change(steps=1, clip_epsilon=0.2))
    assert "clip_epsilon" in "".join(capfd.readouterr())


def test_identity_stands_in_run_json(cfg):
    result = run(cfg.change(steps=1))
    told = json.loads((result.run_dir / "run.json").read_text())
    assert told["identity"]["settings"]["group_size"] == 4 and told["stage"] == "zero"
    assert identity.digest({k: v for k, v in told["identity"].items() if k != "hash"})


def test_an_own_task_in_fifteen_lines_is_trained_and_measured(mini_folder, tmp_path):
    """Problems, a checker, a reward beside it: the whole of an experiment."""
    # --- from here
    r1lite.add_checker("parity", lambda problem, final: final == problem.gold["parity"])
    problems = [
        {"family": "parity", "question": f"make {n} .", "gold": {"parity": ["so", "try"][n % 2]}}
        for n in range(1, 9)
    ]

    def short(completions):
        return [1 / (1 + len(text)) for text in completions]

    cfg = r1lite.preset("tiny", model=mini_folder, device="cpu", steps=2, n_problems=2,
                        group_size=4, max_new_tokens=16, run_dir=str(tmp_path / "own"))  # fmt: skip
    result = r1lite.train(cfg, problems=problems, rewards=[short], progress=False)
    report = r1lite.evaluate(result.policy, problems, cfg, rewards=[short], k=2)
    # --- to here
    assert 0 < result.logs[-1]["reward/short"] < 1 and 0 < report.rewards["short"] < 1
    assert report.n_problems == 8 and report.unchecked == 0.0
    source = inspect.getsource(test_an_own_task_in_fifteen_lines_is_trained_and_measured)
    body = source.split("# --- from here\n")[1].split("# --- to here")[0]
    assert len([line for line in body.splitlines() if line.strip()]) <= 15


def test_a_reward_for_some_problems_and_one_that_cannot_tell_are_two_things(cfg):
    from r1lite.records import UNCHECKED

    half = r1lite.Reward("half", short, applies=lambda problem: problem.language == "en")
    lost = r1lite.Reward("lost", lambda completions: [UNCHECKED] * len(completions))
    logs = run(cfg.change(n_problems=8, steps=1), rewards=[half]).logs
    assert logs[0].unchecked == 0.0 and "reward/half" in logs[0]
    logs = run(cfg.change(run_dir="", n_problems=8, steps=1), rewards=[lost]).logs
    assert logs[0].unchecked == 1.0 and "reward/lost" not in logs[0]
