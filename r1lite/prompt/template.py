"""The prompts: R1-Zero's template as the paper prints it, and a short one for the tiny world."""

from ..records import UserError

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

TEMPLATES = {"r1-zero": R1_ZERO_TEMPLATE, "tiny": TINY_TEMPLATE}


def render(question: str, template: str) -> str:
    """Put a question into a template of TEMPLATES.

    >>> render("make 24 from 6 4 3 .", "tiny")
    'User : make 24 from 6 4 3 . Assistant :'
    """
    if template not in TEMPLATES:
        raise UserError(
            f"template {template!r} is unknown: it must be one of {', '.join(TEMPLATES)}. "
            "Choose one of those, or add yours to r1lite.prompt.TEMPLATES."
        )
    # the paper's template closes the question with a full stop of its own
    if template == "r1-zero":
        question = question.rstrip(" .。")
    return TEMPLATES[template].replace("{question}", question)
