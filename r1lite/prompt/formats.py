"""The formats: how a question becomes a prompt, and how a completion is taken apart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..config import RunConfig
from ..records import Answer, Completion, Group, Problem, UserError
from .answer import after_think, last_answer, split_answer, split_r1

# arXiv 2501.12948v1, Table 1, word for word. It ends at "Assistant:": the model itself has to
# write <think>.
R1_ZERO_TEMPLATE = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant "
    "solves it. The assistant first thinks about the reasoning process in the mind and then "
    "provides the user with the answer. The reasoning process and answer are enclosed within "
    "<think> </think> and <answer> </answer> tags, respectively, i.e., <think> reasoning process "
    "here </think> <answer> answer here </answer>. User: {question}. Assistant:"
)

# The tiny base reads words, not English: it could not follow the instruction above, and 100
# words of it would be most of every prompt. What it knows of the tags it knows from documents.
TINY_TEMPLATE = "User : {question} Assistant :"

# A plain stand-in: the chat templates of real models come with their tokenizers.
R1_TEMPLATE = "User: {question}\n\nAssistant:"

# What the questions of a family leave unsaid, {} for where the answer goes: the tiny base knows it
# from documents, and reads no English. Other models are told beside the question.
RULES = {
    "countdown": "Use each of these numbers exactly once, with + - * / and brackets. Write such an "
    "expression, and nothing else, {}.",
}


@dataclass(frozen=True)
class Format:
    """A template and the way that completions to it are read.

    template      holds {question}; not read where is_chat
    split         strict: a completion's thinking and final answer, or neither
    lenient       what stands where a final answer would, tags ignored; it rewards nothing
    question_end  characters taken off the end of a question, since the template has its own
    is_chat       the prompt is written by the chat template of the model's tokenizer: see
                  policy.load.Policy.prompt. Then `system` is the system prompt (empty: none, or
                  the template's own), and `thinking` what templates with such a switch are told
    place         where an answer goes, in words, with which RULES are stated; empty states none
    """

    name: str
    template: str
    split: Callable[[str], Answer] = split_answer
    lenient: Callable[[str], str] = last_answer
    question_end: str = ""
    is_chat: bool = False
    system: str = ""
    thinking: bool = True
    place: str = ""

    def render(self, question: str) -> str:
        """The prompt for a question. Raises UserError where a tokenizer has to write it."""
        if self.is_chat:
            raise UserError(
                f"format {self.name!r}: such prompts are written by the tokenizer of a model. Use "
                "policy.prompt(question, fmt)."
            )
        return self.template.replace("{question}", question.rstrip(self.question_end))


# The paper's template closes the question with a full stop of its own.
R1_ZERO = Format("r1-zero", R1_ZERO_TEMPLATE, question_end=" .。", place="in the answer tags")
FORMATS: dict[str, Format] = {
    "tiny": Format("tiny", TINY_TEMPLATE),
    "r1-zero": R1_ZERO,
    "r1": Format("r1", R1_TEMPLATE, split_r1, after_think, place="after your thoughts"),
    "tiny-r1": Format("tiny-r1", TINY_TEMPLATE, split_r1, after_think),
    "chat": Format("chat", "", split_r1, after_think, place="after your thoughts", is_chat=True),
}
TEMPLATES = {name: known.template for name, known in FORMATS.items()}


def get_format(name: str | Format) -> Format:
    """A format by its name; one is itself. A template that was added to TEMPLATES alone is read
    with the tags of R1-Zero. Raises UserError naming the known ones."""
    if isinstance(name, Format):
        return name
    if name in FORMATS:
        return FORMATS[name]
    if name in TEMPLATES:
        return Format(name, TEMPLATES[name])
    raise UserError(
        f"template {name!r} is unknown: it must be one of {', '.join({**FORMATS, **TEMPLATES})}. "
        "Choose one of those, or add yours to r1lite.prompt.FORMATS."
    )


def format_of(cfg: RunConfig) -> Format:
    """The format that a run's prompts are written in."""
    fmt = get_format(cfg.template)
    return replace(fmt, system=cfg.system, thinking=cfg.thinking) if fmt.is_chat else fmt


def render(question: str, template: str | Format) -> str:
    """Put a question into the template of a format.

    >>> render("make 24 from 6 4 3 .", "tiny")
    'User : make 24 from 6 4 3 . Assistant :'
    """
    return get_format(template).render(question)


def question_of(problem: Problem, fmt: Format) -> str:
    """A problem's question, with the rules of its family where the format states them. That is
    decided here, as the template is chosen after a problem was made or read.

    >>> problem = Problem("p", "countdown", "1-2", "en", "make 3 from 1 2 .", {})
    >>> question_of(problem, FORMATS["tiny"])
    'make 3 from 1 2 .'
    """
    rules = RULES.get(problem.family, "") if fmt.place else ""
    return " ".join(filter(None, [problem.question, rules.format(fmt.place)]))


def parse(groups: Sequence[Group], fmt: str | Format) -> list[Group]:
    """The groups with each completion's `answer` filled in where it is missing."""
    split = get_format(fmt).split
    return [
        replace(
            group,
            completions=tuple(
                replace(c, answer=split(c.text)) if c.answer is None else c
                for c in group.completions
            ),
        )
        for group in groups
    ]


def read_behind(
    prompt: str, question: str, completions: Sequence[Completion], fmt: Format
) -> tuple[Completion, ...]:
    """Completions to a chat prompt that ends inside the think block, or behind an empty one (that
    is how thinking is switched off), taken apart as what follows it. Others are left to parse."""
    question = question.strip()
    behind = prompt.rpartition(question)[2] if question in prompt else ""  # a template may edit it
    opened = behind.rfind("<think>")
    if not fmt.is_chat or opened < 0:
        return tuple(completions)

    def split(text: str) -> Answer:
        if "</think>" not in behind[opened:]:
            return fmt.split("<think>" + text)
        answer = fmt.split("<think>none</think>" + text)
        return replace(answer, think="") if answer.is_well_formed else answer

    return tuple(replace(c, answer=split(c.text)) for c in completions)
