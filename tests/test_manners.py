"""What sets published models apart: stop tokens, the beginning of a text, tags, chat, dropout."""

import pytest
import torch
from zoo import MANNERS, TAGS, ZOO, put

from r1lite.config import RunConfig, SftConfig, settings_without_effect
from r1lite.evaluation import grade
from r1lite.learn.sft import tokenise
from r1lite.policy import load_policy, sample_groups, token_logps
from r1lite.policy.engine import Sampling
from r1lite.policy.load import Policy
from r1lite.policy.manners import context, stop_tokens
from r1lite.policy.sample import sample_answers
from r1lite.prompt import FORMATS, format_of, get_format, read_behind, split_answer
from r1lite.records import Completion, Group, Problem, UserError
from r1lite.rewards import score

QUESTION = "What is 6 * 4 ?"
PROBLEM = Problem("p", "maths", "p", "en", QUESTION, {"answer": "24"})


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """A folder for each manner."""
    of = {manner: name for name, (manner, _) in reversed(ZOO.items())}
    return {manner: put(tmp_path_factory.mktemp("zoo"), of[manner]) for manner in MANNERS}


@pytest.fixture(params=MANNERS)
def policy(request, folders) -> Policy:
    return load_policy(folders[request.param], device="cpu")


def of(folders, manner: str) -> Policy:
    return load_policy(folders[manner], device="cpu")


# --- stop tokens -----------------------------------------------------------------------------


def test_every_stop_token_that_the_folder_names_ends_an_answer(folders):
    policy = of(folders, "chat")
    names = policy.tokenizer.convert_ids_to_tokens(list(policy.stop_ids))
    assert names == ["<|im_end|>", "<|endoftext|>"]
    with torch.no_grad():  # about every token is as likely
        policy.model.get_input_embeddings().weight.mul_(0.01)
    how = Sampling(group_size=64, max_new_tokens=200)
    answers = sample_answers(policy, [policy.encode("a")], [("key",)], how)
    last = {a.token_ids[-1] for a in answers if not a.truncated}
    assert last == set(policy.stop_ids), "the stop that was written is the one that is trained"
    assert all(a.truncated == (a.token_ids[-1] not in policy.stop_ids) for a in answers)
    assert not any(set(a.token_ids[:-1]) & set(policy.stop_ids) for a in answers)


def test_the_config_alone_may_name_the_stop_token(folders):
    policy = of(folders, "base")
    stop, tokenizer = policy.stop_id, policy.tokenizer
    tokenizer.eos_token = None
    assert stop_tokens(policy.model, tokenizer) == (stop,)
    policy.model.config.eos_token_id = policy.model.generation_config.eos_token_id = None
    with pytest.raises(UserError, match="every answer would run to the length limit"):
        stop_tokens(policy.model, tokenizer)


# --- the beginning ---------------------------------------------------------------------------


def test_a_text_begins_with_the_models_token_once(policy):
    first = policy.tokenizer("")["input_ids"][:1]
    ids = policy.encode(QUESTION)
    assert ids == policy.tokenizer(QUESTION)["input_ids"]
    assert ids[:1] == first or not first
    assert policy.encode(QUESTION, begins=False) == ids[len(first) :]
    if first:
        assert policy.encode(policy.tokenizer.bos_token + QUESTION) == ids, "not twice"
    assert policy.decode(ids) == QUESTION


def test_supervised_rows_begin_once_and_end_with_the_stop_token(policy):
    rows = [{"prompt": QUESTION, "completion": " 24"}, {"text": QUESTION + " 24"}]
    pair, text = tokenise(policy, rows, SftConfig())
    first = policy.tokenizer("")["input_ids"][:1]
    # texts that a chat template wrote have both already
    whole = policy.tokenizer.decode([*first, *policy.encode(" 24", begins=False), policy.stop_id])
    (again,) = tokenise(policy, [{"text": whole}], SftConfig())
    assert [*again.prompt_ids, *again.answer_ids].count(policy.stop_id) == 1 + (
        first == [policy.stop_id]
    )
    for row in (pair, text, again):
        ids = [*row.prompt_ids, *row.answer_ids]
        assert ids[-1] == policy.stop_id and ids[: len(first)] == first
        assert policy.tokenizer.bos_token_id not in ids[1:-1]
    assert policy.decode(pair.answer_ids) == " 24"


# --- tags ------------------------------------------------------------------------------------


def test_tags_are_seen_whatever_tokens_they_are(policy):
    """Special tokens, added ones or several tokens each."""
    text = "<think>6 * 4 is 24</think> <answer>24</answer>"
    ids = [*policy.encode(text, begins=False), policy.stop_id]
    assert policy.decode(ids) == text
    assert split_answer(policy.decode(ids)).final == "24"
    completion = Completion(tuple(ids), (0.0,) * len(ids), policy.decode(ids), False)
    (group,) = score([Group(PROBLEM, (1,), (completion,))], {"accuracy": 1, "format": 1})
    assert group.parts == {"accuracy": (1.0,), "format": (1.0,)}
    report = grade([group])
    assert report.pass_at_1 == report.pass_at_1_lenient == report.format == 1.0


def test_tags_are_tokens_in_the_chat_tokenizer(folders):
    tokenizer = of(folders, "chat").tokenizer
    assert set(TAGS) <= set(tokenizer.all_special_tokens)
    assert tokenizer.decode(tokenizer("<think>a</think>")["input_ids"], skip_special_tokens=True)
    assert "<think>" not in tokenizer.decode(
        tokenizer("<think>a</think>")["input_ids"], skip_special_tokens=True
    ), "which is why r1lite does not decode so"


# --- chat ------------------------------------------------------------------------------------


def test_a_chat_model_is_asked_by_its_own_template(folders):
    policy = of(folders, "chat")
    plain = policy.prompt(QUESTION, FORMATS["chat"])
    assert plain == f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    told = format_of(RunConfig(template="chat", system="Be brief.", thinking=False))
    asked = policy.prompt(QUESTION, told)
    assert asked.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")
    assert asked.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    ids = policy.encode(asked)
    assert ids == policy.tokenizer(asked, add_special_tokens=False)["input_ids"]


def test_a_template_that_writes_the_first_token_does_not_double_it(folders):
    policy = of(folders, "distilled")
    text = policy.prompt(QUESTION, FORMATS["chat"])
    assert text == f"<|begin|><|User|>{QUESTION}<|Assistant|><think>\n"
    assert policy.encode(text).count(policy.tokenizer.bos_token_id) == 1


def test_a_base_has_no_chat_template(folders):
    with pytest.raises(UserError, match="no chat template"):
        of(folders, "base").prompt(QUESTION, FORMATS["chat"])


def test_a_template_that_refuses_is_named_in_one_line(folders):
    """Gemma's takes no system prompt."""
    policy = of(folders, "chat")
    policy.tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(UserError, match="System role not supported.*Leave system= empty"):
        policy.prompt(QUESTION, FORMATS["chat"])


def test_a_question_that_the_template_edits_opens_nothing(folders):
    """Then what stands behind it is not known: the format is read as it stands."""
    completion = Completion((1,), (0.0,), "<think>a</think> b", False)
    prompt = "<think> in the system prompt </think> What is six times four ?"
    assert read_behind(prompt, QUESTION, [completion], FORMATS["chat"])[0].answer is None


def test_settings_of_chat_without_chat_are_said():
    said = settings_without_effect(RunConfig(system="Be brief.", thinking=False))
    assert len(said) == 2 and all("chat template" in line for line in said)


def split_behind(policy: Policy, fmt, text: str):
    completion = Completion((1,), (0.0,), text, False)
    prompt = policy.prompt(QUESTION, fmt)
    (read,) = read_behind(prompt, QUESTION, [completion], fmt)
    return read.answer


def test_a_prompt_that_opens_the_thinking_is_read_with_it(folders):
    """The completion begins inside the block: it has no opening tag of its own."""
    policy, fmt = of(folders, "distilled"), FORMATS["chat"]
    answer = split_behind(policy, fmt, "six fours are 24</think> It is 24.")
    assert (answer.think, answer.final) == ("six fours are 24", "It is 24.")
    assert not split_behind(policy, fmt, "<think>twice</think> It is 24.").is_well_formed
    assert not split_behind(policy, fmt, "it never ends").is_well_formed


def test_without_thinking_the_whole_completion_is_the_answer(folders):
    policy = of(folders, "chat")
    fmt = format_of(RunConfig(template="chat", thinking=False))
    answer = split_behind(policy, fmt, "It is 24.")
    assert (answer.think, answer.final) == ("", "It is 24.")
    for other in ("<think>so</think> It is 24.", " "):
        answer = split_behind(policy, fmt, other)
        assert (answer.think, answer.final) == (None, None)


def test_a_prompt_that_opens_nothing_leaves_that_to_the_model(folders):
    policy, fmt = of(folders, "chat"), FORMATS["chat"]
    assert split_behind(policy, fmt, "<think>so</think> 24") is None  # parse reads it
    assert get_format("chat").split("<think>so</think> 24").final == "24"
    assert not get_format("chat").split("so</think> 24").is_well_formed


def test_the_question_may_speak_of_tags(folders):
    """What stands in the question, or in the system prompt, opens nothing."""
    policy = of(folders, "chat")
    fmt = format_of(RunConfig(template="chat", system="Write <think> first."))
    completion = Completion((1,), (0.0,), "<think>a</think> b", False)
    prompt = policy.prompt("What does <think> mean?", fmt)
    assert read_behind(prompt, "What does <think> mean?", [completion], fmt)[0].answer is None


def test_the_reasoning_reaches_the_rewards_and_the_report(folders):
    """A distilled model's template drops the reasoning of what was said: nothing of an answer is
    put through it again."""
    policy = of(folders, "distilled")
    seen = []

    def reward(completions, parsed, **columns):
        seen.extend(
            (messages[-1]["content"], answer) for messages, answer in zip(completions, parsed)
        )
        return [0.0] * len(completions)

    groups = sample_groups(policy, [PROBLEM], group_size=3, max_new_tokens=12, template="chat")
    said = "six fours are 24</think> \\boxed{24}"
    first = groups[0].completions[0]
    spoken = Completion(first.token_ids, first.logps, said, False)
    prompt = policy.decode(groups[0].prompt_ids)
    assert prompt.endswith(f"{QUESTION}<think>\n"), "special tokens are not shown, tags are"
    (spoken,) = read_behind(
        policy.prompt(QUESTION, FORMATS["chat"]), QUESTION, [spoken], FORMATS["chat"]
    )
    (group,) = score([Group(PROBLEM, groups[0].prompt_ids, (spoken,))], [reward], "chat")
    assert seen == [(said, spoken.answer)] and spoken.answer.think == "six fours are 24"
    assert grade([group], fmt="chat").pass_at_1 == 1.0


# --- what is left to chance, and the context -------------------------------------------------


@pytest.mark.parametrize("architecture", ["Phi", "GPT2", "OPT", "Mixtral"])
def test_nothing_is_left_to_chance_in_training(architecture, tmp_path):
    """Dropout is off wherever log-probabilities are compared, also where a model has it on."""
    policy = load_policy(put(tmp_path, architecture), device="cpu")
    assert policy.model.training
    ids = torch.arange(5, 45).view(2, 20)
    with torch.no_grad():
        first, again = (token_logps(policy.model, ids) for _ in range(2))
        policy.model.eval()
        quiet = token_logps(policy.model, ids)
    assert torch.equal(first, again)
    torch.testing.assert_close(first, quiet, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("architecture", "length"), [("GPT2", 640), ("OPT", 640), ("Bloom", None), ("Mamba", None)]
)
def test_the_context_has_many_names_or_none(architecture, length, tmp_path):
    policy = load_policy(put(tmp_path, architecture), device="cpu")
    assert policy.max_length == (length or 2**24)
    policy.tokenizer.model_max_length = 300
    assert context(policy.model.config, policy.tokenizer) == (length or 300)
