"""Problems that others wrote: GSM8K, MATH, Countdown, from the Hugging Face Hub or from files.

GSM8K (arXiv 2110.14168) has its gold after "####", MATH (arXiv 2103.03874) in the last \\boxed{} of
a solution, MATH-500 in a column of its own; Countdown (TinyZero) is numbers and a target. A format
is known by its columns.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from operator import index
from pathlib import Path
from typing import Any, NoReturn

from ..records import Problem, UserError, is_text
from .common import language_of
from .countdown import ask
from .files import file_rows

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(\{?)")
_NUMBER = re.compile(r"-?[\d.]+(e[+-]\d+)?")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # \{ and \} are characters of a formula, not braces


def last_boxed(text: str) -> str:
    r"""What stands in the last \boxed{} or \fbox{} of a text; "" if there is none.

    >>> last_boxed(r"first \boxed{1} , but then $\boxed{\frac{3}{4}}$ .")
    '\\frac{3}{4}'
    """
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return ""
    rest, depth = text[boxes[-1].end() :], 1
    if not boxes[-1][1]:  # MATH also has "$\boxed 7$"
        return rest.split("$")[0].strip()
    for brace in _BRACE.finditer(rest):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return rest[: brace.start()].strip()
    return ""


def _after_hashes(answer: str) -> str:
    return answer.rpartition("####")[2].strip() if "####" in answer else ""


def number_text(cell: Any) -> str:
    """A number as a gold is written; "" for NaN and whatever is no number.

    >>> number_text(7), number_text(0.00000025), number_text(None), number_text("7")
    ('7', '0.00000025', '', '')
    """
    is_number = not isinstance(cell, str) and _NUMBER.fullmatch(str(cell))
    return f"{Decimal(str(cell)):f}" if is_number else ""


def countdown_problem(
    row: Mapping[str, Any], name: str, where: str, data: "DataSet | None" = None
) -> Problem:
    """A problem of family "countdown" from a row with nums and target; name is its id.

    Its cluster is the set of numbers, as of problems that are made. Raises UserError, which begins
    with `where`, for anything but whole numbers from 0.
    """
    try:
        numbers, target = [index(n) for n in row["nums"]], index(row["target"])
        if min(numbers) < 0:
            raise ValueError("no answer may write a minus sign")
    except (TypeError, ValueError):
        raise UserError(
            f"{where} has nums {row['nums']!r} and target {row['target']!r}: in Countdown these "
            "are a list of whole numbers from 0 and a whole number. Fix it, or leave the row out."
        ) from None
    cluster = "-".join(map(str, sorted(numbers)))
    gold = {"numbers": numbers, "target": target}
    return Problem(name, "countdown", cluster, "en", ask(target, numbers, "en"), gold)


def maths_problem(row: Mapping[str, Any], name: str, where: str, data: "DataSet") -> Problem:
    """A problem of family "maths" from a row with a question and what holds its gold; name is its
    id. Where a number stands in place of a text with the gold, it is the gold. Raises UserError,
    which begins with `where`, for a row without a question or a gold."""
    question, cell = (row[column] for column in data.columns)
    gold = data.gold(cell.strip()) if isinstance(cell, str) else number_text(cell)
    if not (is_text(question) and is_text(gold)):
        column = data.columns[1 if is_text(question) else 0]
        raise UserError(
            f"{where} has no {column} to use but {str(row[column])[-60:]!r}: a question is a "
            f"text, a gold one or a number, and {data.rule}. Fix it, or leave the row out."
        )
    language = language_of(question)
    return Problem(name, "maths", name, language, question.strip(), {"answer": gold})


@dataclass(frozen=True)
class DataSet:
    """A data set that others made.

    hub               its name on the Hugging Face Hub
    files             split -> pattern of its files there; the first split is the default one. A
                      split called "test" is never trained on
    columns           a row is of this data set if it has them: the question, what holds the gold
    gold              reads the gold out of that column; rule says in words where it is
    to_problem        (row, id, file and row number for messages, this) -> Problem
    split_by_cluster  all splits are one file: which side a row is on is decided as for problems
                      that are made, by world.is_held_out
    """

    hub: str
    files: Mapping[str, str]
    columns: tuple[str, str]
    gold: Callable[[str], str] = str.strip
    rule: str = ""
    to_problem: Callable[..., Problem] = maths_problem
    split_by_cluster: bool = False

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Whether a row has something in the columns; what is wrong with it, to_problem says."""
        return all(row.get(column) is not None for column in self.columns)


# The format of a file is that of the first entry whose columns it has. Training splits are on the
# Hub as parquet alone.
DATA_SETS: dict[str, DataSet] = {
    "gsm8k": DataSet(
        "openai/gsm8k",
        {split: f"main/{split}-*.parquet" for split in ("train", "test")},
        ("question", "answer"),
        _after_hashes,
        "in GSM8K an answer ends in #### and the gold",
    ),
    "math": DataSet(
        "EleutherAI/hendrycks_math",
        {split: f"*/{split}-*.parquet" for split in ("train", "test")},
        ("problem", "solution"),
        last_boxed,
        "in MATH a solution has its gold in \\boxed{}",
    ),
    "math-500": DataSet(  # 500 problems of math:test
        "HuggingFaceH4/MATH-500",
        {"test": "test.jsonl"},
        ("problem", "answer"),
        rule="in MATH-500 an answer is the gold",
    ),
    "countdown": DataSet(
        "Jiayi-Pan/Countdown-Tasks-3to4",
        dict.fromkeys(("train", "test"), "data/*"),
        ("nums", "target"),
        to_problem=countdown_problem,
        split_by_cluster=True,
    ),
}


def layout_of(row: Mapping[str, Any], where: str) -> DataSet:
    """The data set whose columns a row has, one with a column of answers first: MATH-500 also has
    the columns of MATH. One of empty columns comes last: tables give a row the columns of all.
    Raises UserError, which begins with `where`, if there is none."""
    having = [data for data in DATA_SETS.values() if all(name in row for name in data.columns)]
    if not having:
        pairs = [" and ".join(data.columns) for data in DATA_SETS.values()]
        raise UserError(
            f"{where} has the columns {', '.join(map(str, row)) or '(none)'}: a problem needs "
            f"{', or '.join(dict.fromkeys(pairs))}, or those of r1lite "
            f"({', '.join(Problem.REQUIRED)}). Rename its columns, or leave the row out."
        )
    return min(having, key=lambda data: (not data.fits(row), data.columns[1] != "answer"))


def read_rows(
    source: Path | str, to_train: bool
) -> list[tuple[str, str, dict[str, Any], DataSet | None]]:
    """(id, file and row number for messages, row, data set) of a data set, a file or a folder of
    .json files; the last is None for a file or folder.

    source    a path: a file (see file_rows), or a folder with .json files at any depth; or, if
              there is no such path, a name of DATA_SETS, which may end in ":train" or ":test"
    to_train  refuse what is known as a test split: by its name on the Hub, by "test" in the name
              of the file, by folders as in the MATH archive (test/algebra/1.json), by the unique_id
              of MATH-500
    Raises UserError for what cannot be found, fetched or read.
    """
    path, (name, _, split) = Path(source), str(source).partition(":")
    data = None if path.exists() else DATA_SETS.get(name)
    if data is None:
        files, held_out = _local(path)
        top, prefix = path.parent, ""
    else:
        split = split or next(iter(data.files))
        if split not in data.files:
            raise UserError(
                f"{name}:{split} is unknown: the splits of {name} are {', '.join(data.files)}. "
                "Choose one of those."
            )
        held_out, prefix = split == "test", f"{name}/"
        if not (held_out and to_train):
            files, top = _fetch(data.hub, data.files[split])
    if held_out and to_train:
        _refuse(source)
    rows = []
    for file in files:
        inside = file.relative_to(top).as_posix().removesuffix(".gz")
        place = prefix + Path(inside).with_suffix("").as_posix()
        for i, row in enumerate(file_rows(file), start=1):
            if to_train and str(row.get("unique_id", "")).startswith("test/"):
                _refuse(source)
            rows.append((f"{place}/{i}", f"{file}, row {i}", row, data))
    return rows


def _refuse(source: Path | str) -> NoReturn:
    raise UserError(
        f"{str(source)!r} holds a test split: it is held out, so nothing is trained on it. Train "
        "on a train split, and measure on this one with `python -m r1lite evaluate --problems`."
    )


def _local(path: Path) -> tuple[list[Path], bool]:
    """The files of a path, and whether one of them is known to be of a test split."""
    if not path.exists():
        raise UserError(
            f"there is no file {path}: problems come from a file, a folder of .json files, or one "
            f"of {', '.join(DATA_SETS)}. Check the path."
        )
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    names = {word for p in (path, *files) for word in re.split(r"[\W_]+", p.name.lower())}
    if path.is_dir():
        names |= {folder.name for file in files for folder in file.parents[:2]}
    return files, "test" in names


def _fetch(repo: str, wanted: str) -> tuple[list[Path], Path]:
    """The files of a split, downloaded once into the Hub's cache, and the folder they are in."""
    import huggingface_hub

    try:
        folder = Path(
            huggingface_hub.snapshot_download(repo, repo_type="dataset", allow_patterns=[wanted])
        )
        files = sorted(folder.glob(wanted))
        if not files:
            raise FileNotFoundError("it holds no such file")
    except Exception as error:  # the library raises many kinds; the cause is kept
        raise UserError(
            f"{wanted} of the data set {repo} could not be fetched from the Hugging Face Hub "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]}): that takes a "
            "network, once. Fetch the file elsewhere and give its path."
        ) from error
    return files, folder
