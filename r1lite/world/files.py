"""The rows of a file of data, in the ways in which data sets are published."""

import json
from pathlib import Path
from typing import Any

from ..records import UserError, needs
from ..runlog import read_bytes, read_jsonl, read_text


def file_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines, .json or .parquet; gzip may have packed it (.jsonl.gz).

    A .json file holds one row, as in the MATH archive, a list of rows, columns as pandas writes
    them ({"question": [...], "answer": [...]}), or lines all the same.
    Raises UserError naming the file, and the line where there are lines.
    """
    kind = Path(file.name.removesuffix(".gz")).suffix
    if kind not in (".json", ".parquet"):
        return read_jsonl(file, whole=True)
    try:
        if kind == ".parquet":
            with needs(str(file), "pyarrow", "give a .jsonl file, as GSM8K has on GitHub"):
                import pyarrow.parquet  # pandas would make NaN of None, and 3.0 of 3 beside it
            return pyarrow.parquet.read_table(pyarrow.BufferReader(read_bytes(file))).to_pylist()
        rows = _rows(json.loads(read_text(file)))
    except UserError:
        raise
    except (ValueError, OSError, NotImplementedError, RecursionError) as error:
        if getattr(error, "msg", "") == "Extra data":  # a second line
            return read_jsonl(file, whole=True)
        raise UserError(
            f"{file} could not be read ({' '.join(str(error).split())[:120]}): it must be a whole "
            f"{kind} file. Fetch or write it anew."
        ) from error
    if not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{file} holds {str(rows)[:60]!r}: it must hold JSON objects. Fix it.")
    return rows


def _rows(content: Any) -> list[Any]:
    if not isinstance(content, dict):
        return content if isinstance(content, list) else [content]
    # a column is a list, or a dict from the number of a row to its cell
    columns = [list(c.values()) if isinstance(c, dict) else c for c in content.values()]
    if not all(isinstance(column, list) for column in columns):
        return [content]
    return [dict(zip(content, cells)) for cells in zip(*columns, strict=True)]
