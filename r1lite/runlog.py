"""Run logs: JSON lines that every plot reads, written so that a kill at any time loses nothing."""

import contextlib
import gzip
import json
import os
import platform
import re
import shutil
import sys
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from .records import UserError

# what atomic_path writes beside its target; other names are somebody else's
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}(\.old)?\.tmp")


@contextlib.contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside target; rename it onto target only if all went well.

    Works for a file and for a folder. If the body fails (disk full, Ctrl-C), target is as it
    was before and nothing is left lying about. A full disk is raised as UserError.
    """
    target = Path(target)
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.tmp"
    aside = temporary.with_suffix(".old.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        for file in temporary.rglob("*") if temporary.is_dir() else [temporary]:
            if file.is_file():
                _sync(file)
        if temporary.is_dir() and target.exists():  # no folder takes the place of another
            os.replace(target, aside)
        os.replace(temporary, target)
    except Exception as error:
        # a full disk is an OSError to Python, other things to torch.save and to safetensors
        if not isinstance(error, (OSError, RuntimeError, SafetensorError)):
            raise
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise UserError(
            f"{target} could not be written ({reason}): the last complete one is "
            "untouched. Free some space or choose another folder, then run the same command again."
        ) from error
    finally:
        _remove(temporary)
        _remove(aside)


def _sync(file: Path) -> None:
    if not os.access(file, os.W_OK):  # a copy of a read-only file is one as well
        file.chmod(file.stat().st_mode | 0o200)
    with file.open("r+b") as handle:  # Windows syncs only what is open for writing
        os.fsync(handle.fileno())


def remove_leftovers(folder: Path | str) -> None:
    """Delete what atomic_path was writing in a folder when a kill -9 came; one writer a folder."""
    for path in Path(folder).glob(".*.tmp"):
        if TEMPORARY.fullmatch(path.name):
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):  # what cannot be written to cannot be deleted either
            path.unlink(missing_ok=True)


def write_json(path: Path | str, value: Any) -> None:
    """Write one JSON file atomically."""
    with atomic_path(path) as temporary:
        text = json.dumps(value, indent=1, ensure_ascii=False, default=str)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """The content of a JSON file; raises UserError where it is none."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            f"{path} is not JSON ({error}): it was damaged, or is not r1lite's. Restore it from a "
            "copy, or delete it."
        ) from error


def append_jsonl(path: Path | str, row: Mapping[str, Any]) -> None:
    """Add one line; a kill can at worst leave half of the last line, which truncate_jsonl drops."""
    try:
        with Path(path).open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
    except OSError as error:
        raise UserError(
            f"{path} could not be extended ({error.strerror or error}): the checkpoint is "
            "untouched. Free some space, then run the same command again."
        ) from error


def read_bytes(path: Path | str) -> bytes:
    """What a file holds, unpacked if gzip packed it; raises UserError if it cannot be read."""
    try:
        if not Path(path).is_file():  # to read a pipe or a device may never end
            raise OSError("no file is there")
        data = Path(path).read_bytes()
        return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{path} could not be read ({error}): it must be a whole file, and no folder, pipe or "
            "device. Check the path; write what comes out of a pipe to a file first."
        ) from error


def read_text(path: Path | str, errors: str = "strict") -> str:
    """The text of a file in UTF-8 or UTF-16; raises UserError naming the line that is neither.

    errors  "surrogateescape" lets it pass, as half characters (see bytes.decode)
    """
    data = read_bytes(path)
    try:
        return data.decode(json.detect_encoding(data), errors)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}, line {line} is neither UTF-8 nor UTF-16 ({error.reason}): it must be one. "
            "Convert the file, from Latin-1 by `iconv -f latin1 -t utf-8 OLD > NEW`."
        ) from error


def read_jsonl(path: Path | str, whole: bool = False) -> list[dict[str, Any]]:
    """All rows of a file of JSON lines.

    whole  False: of a log. The half line that a kill leaves at its end is left out
    Raises UserError with the line number of any other that is damaged.
    """
    return [row for _, row in _lines(path, whole)]


def _lines(path: Path | str, whole: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line with the row that it holds."""
    # not splitlines: a model may write U+2028, which it takes for the end of a line
    lines = read_text(path, "strict" if whole else "surrogateescape").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            line.encode()  # fails for bytes that are no UTF-8
            row = {**json.loads(line)}
        except (ValueError, TypeError, RecursionError) as error:
            if number == len(lines) and not whole:
                return
            raise UserError(
                f"{path}, line {number} is no JSON object ({getattr(error, 'msg', error)}): "
                f"{line[:60]!r}. Every line must hold one; fix or delete that line."
            ) from error
        yield line, row


def truncate_jsonl(path: Path | str, last_step: int) -> None:
    """Keep the rows up to a step, so that a resumed run does not write a step twice.

    Raises UserError, and changes nothing, if a line is damaged that no kill has left so.
    """
    path = Path(path)
    if not path.exists():
        return
    kept = [line for line, row in _lines(path, whole=False) if row.get("step", 0) <= last_step]
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def read_log(path: Path | str) -> list[dict[str, Any]]:
    """The rows of a run's log of numbers; none where there is no file.

    Raises UserError for a row without its step, or with a word where a number belongs.
    """
    rows = read_jsonl(path) if Path(path).exists() else []
    for number, row in enumerate(rows, start=1):
        if type(row.get("step")) is not int or not _holds_numbers(row):
            raise UserError(
                f"{path}, row {number} is {str(row)[:60]!r}: it must have a whole number as step, "
                "and numbers for the rest. Mend or delete that line."
            )
    return rows


def _holds_numbers(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_holds_numbers, value.values()))
    return not isinstance(value, str)  # lists are warnings, None is what nobody has measured


def describe_run(**facts: Any) -> dict[str, Any]:
    """What a reader needs to repeat a run: versions, hardware, command, and the facts given."""
    import torch
    import transformers

    hardware = f"{_processor()}, {torch.get_num_threads()} thread(s)"
    versions = {module.__name__: module.__version__ for module in (torch, transformers)}
    return {
        "versions": {"python": platform.python_version()} | versions,
        "hardware": torch.cuda.get_device_name() if torch.cuda.is_available() else hardware,
        "command": " ".join(["python -m r1lite", *sys.argv[1:]]),
    } | facts


def _processor() -> str:
    """The processor where the system tells it: "AMD EPYC, family 25, model 17 (x86_64)".

    Rented machines of one name differ in generation, and so in speed by half.
    """
    with contextlib.suppress(OSError, KeyError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        said = dict(line.replace("\t", "").split(": ", 1) for line in lines if ": " in line)
        found = f"{said['model name']}, family {said['cpu family']}, model {said['model']}"
        return f"{found} ({platform.machine()})"
    return f"{platform.machine()} CPU"


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table that GitHub and notebooks show; a bar in a cell is escaped.

    >>> print(markdown_table(["name", ""], [["a|b", 1]]))
    | name |  |
    |---|---|
    | a\\|b | 1 |
    """
    cells = ([str(cell).replace("|", "\\|") for cell in row] for row in rows)
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in cells])
