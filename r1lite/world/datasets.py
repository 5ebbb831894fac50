"""Problems that others wrote: GSM8K, MATH, Countdown, from the Hugging Face Hub or from files.

GSM8K (arXiv 2110.14168) has its gold after "####", MATH (arXiv 2103.03874) in the last \\boxed{} of
a solution, MATH-500 in a column of its own; Countdown (TinyZero) is numbers and a target. A format
is known by its columns.
"""

import re
from collections.abc import Mapping
from operator import index
from pathlib import Path
from typing import Any, NoReturn

from ..records import Problem, UserError
from ..runlog import read_json, read_jsonl
from .countdown import ask

# name -> data set on the Hub, and the files of each split; the first split is the default one.
# The training splits are there as parquet alone.
HUB = {
    "gsm8k": ("openai/gsm8k", {s: f"main/{s}-*.parquet" for s in ("train", "test")}),
    "math": ("EleutherAI/hendrycks_math", {s: f"*/{s}-*.parquet" for s in ("train", "test")}),
    "math-500": ("HuggingFaceH4/MATH-500", {"test": "test.jsonl"}),  # 500 problems of math:test
    # one file for both: which side a row is on is decided by its numbers
    "countdown": ("Jiayi-Pan/Countdown-Tasks-3to4", dict.fromkeys(("train", "test"), "data/*")),
}
_BOX = re.compile(r"\\(?:boxed|fbox)\s*(\{?)")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # \{ and \} are signs of a formula, not braces


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
    for sign in _BRACE.finditer(rest):
        depth += {"{": 1, "}": -1}.get(sign[0], 0)
        if depth == 0:
            return rest[: sign.start()].strip()
    return ""


def _after_hashes(answer: str) -> str:
    return answer.rpartition("####")[2].strip() if "####" in answer else ""


# columns of the question and of what holds the gold -> how to read it, and the rule in words
_FORMATS = {
    ("question", "answer"): (_after_hashes, "in GSM8K an answer ends in #### and the gold"),
    ("problem", "answer"): (str.strip, "in MATH-500 an answer is the gold"),
    ("problem", "solution"): (last_boxed, "in MATH a solution has its gold in \\boxed{}"),
}


def countdown_problem(row: Mapping[str, Any], name: str, where: str) -> Problem:
    """A problem of family "countdown" from a row with nums and target; name is its id.

    Its cluster is the set of numbers, as of problems that are made. Raises UserError, which begins
    with `where`, for anything but whole numbers from 0.
    """
    try:
        numbers, target = [index(n) for n in row["nums"]], index(row["target"])
        if min(numbers) < 0:
            raise ValueError("no answer may write a sign")
    except (TypeError, ValueError):
        raise UserError(
            f"{where} has nums {row['nums']!r} and target {row['target']!r}: in Countdown these "
            "are a list of whole numbers from 0 and a whole number. Fix it, or leave the row out."
        ) from None
    cluster = "-".join(map(str, sorted(numbers)))
    gold = {"numbers": numbers, "target": target}
    return Problem(name, "countdown", cluster, "en", ask(target, numbers, "en"), gold)


def maths_problem(row: Mapping[str, Any], name: str, where: str) -> Problem:
    """A problem of family "maths" from a row of GSM8K, MATH or MATH-500; name is its id.

    Raises UserError, which begins with `where`, for a row without the columns of one of them,
    without a question or without a gold.
    """
    for (asked, said), (gold_of, rule) in _FORMATS.items():
        if row.get(asked) is not None and row.get(said) is not None:
            question, gold = str(row[asked]).strip(), gold_of(str(row[said]))
            if not question or not gold:
                what = f"no gold in {said} {str(row[said])[-60:]!r}" if question else f"no {asked}"
                raise UserError(f"{where} has {what}: {rule}. Fix it, or leave the row out.")
            return Problem(name, "maths", name, "en", question, {"answer": gold})
    raise UserError(
        f"{where} has the columns {', '.join(map(str, row)) or '(none)'}: a problem needs "
        f"{', or '.join(' and '.join(pair) for pair in _FORMATS)}, or nums "
        f"and target, or those of r1lite "
        f"({', '.join(Problem.REQUIRED)}). Rename its columns, or leave the row out."
    )


def read_rows(source: Path | str, to_train: bool) -> list[tuple[str, str, dict[str, Any]]]:
    """(id, file and row number for messages, row) of a data set, a file or a folder of .json files.

    source    a path: .jsonl, .json, .parquet, or a folder with .json files at any depth; or, if
              there is no such path, a name of HUB, which may end in ":train" or ":test"
    to_train  refuse what is known as a test split: by its name on the Hub, by "test" in the name
              of the file, by folders as in the MATH archive (test/algebra/1.json), by the unique_id
              of MATH-500
    Raises UserError for what cannot be found, fetched or read.
    """
    path, (name, _, split) = Path(source), str(source).partition(":")
    if path.exists() or name not in HUB:
        files, held_out = _local(path)
        top, prefix = path.parent, ""
    else:
        splits = HUB[name][1]
        split = split or next(iter(splits))
        if split not in splits:
            raise UserError(
                f"{name}:{split} is unknown: the splits of {name} are {', '.join(splits)}. "
                "Choose one of those."
            )
        held_out, prefix = split == "test", f"{name}/"
        if not (held_out and to_train):
            files, top = _fetch(*HUB[name], split)
    if held_out and to_train:
        _refuse(source)
    found = []
    for file in files:
        place = prefix + file.relative_to(top).with_suffix("").as_posix()
        for i, row in enumerate(_rows(file), start=1):
            if to_train and str(row.get("unique_id", "")).startswith("test/"):
                _refuse(source)
            found.append((f"{place}/{i}", f"{file}, row {i}", row))
    return found


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
            f"of {', '.join(HUB)}. Check the path."
        )
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    names = {word for p in (path, *files) for word in re.split(r"[\W_]+", p.name.lower())}
    if path.is_dir():
        names |= {folder.name for file in files for folder in file.parents[:2]}
    return files, "test" in names


def _fetch(repo: str, splits: Mapping[str, str], split: str) -> tuple[list[Path], Path]:
    """The files of a split, downloaded once into the Hub's cache, and the folder they are in."""
    import huggingface_hub

    wanted = splits[split]
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


def _rows(file: Path) -> list[dict[str, Any]]:
    if file.suffix not in (".json", ".parquet"):
        return read_jsonl(file)
    try:
        if file.suffix == ".json":  # one problem, as in the MATH archive, or a list
            found = read_json(file)
            rows = found if isinstance(found, list) else [found]
        else:
            import pandas

            rows = pandas.read_parquet(file).to_dict("records")
    except ImportError as error:
        raise UserError(
            f"{file} is a parquet file, which needs the package pyarrow: it is not installed. Run "
            "`pip install pyarrow`, or give a .jsonl file (GitHub: openai/grade-school-math)."
        ) from error
    except (ValueError, OSError) as error:
        raise UserError(
            f"{file} could not be read ({' '.join(str(error).split())[:120]}): it must be a whole "
            f"{file.suffix} file. Fetch or write it anew."
        ) from error
    if not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{file} holds {str(rows)[:60]!r}: it must hold JSON objects. Fix it.")
    return rows
