"""Run a notebook in order, clean it, write it back: how the committed ones are made.

python tests/run_notebooks.py notebooks/05_r1_zero.ipynb
"""

from __future__ import annotations

import hashlib
import re
import sys
import time
from pathlib import Path
from typing import Any

from r1lite.records import UserError
from r1lite.runlog import atomic_path

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
CELL_TIMEOUT = 600  # seconds
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")
_PROGRESS = re.compile(r"\d+%\|.*(it/s|s/it|\?it|step/s|s/step)")
_WIDGET = "application/vnd.jupyter.widget-view+json"


def _cell_id(cell: Any, taken: set[str]) -> str:
    """The id that the cell has, if it is fit and free; else one made from its content."""
    found = cell.get("id", "")
    if re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", found) and found not in taken:
        return found
    text = f"{cell.cell_type}\n{cell.source}"
    for salt in range(1000):
        made = hashlib.sha256(f"{salt}\n{text}".encode()).hexdigest()[:8]
        if made not in taken:
            return made
    raise AssertionError("a thousand equal cells")


def _clean_text(text: str, home: str) -> str:
    """Text without addresses, without the paths of one machine, without overwritten lines."""
    text = "\n".join(line.rsplit("\r", 1)[-1] for line in text.split("\n"))
    return _ADDRESS.sub("0x0", text.replace(home, "."))


def _clean_output(output: Any, home: str) -> Any | None:
    if output.output_type == "stream":
        kept = [line for line in output.text.splitlines(True) if not _PROGRESS.search(line)]
        output.text = _clean_text("".join(kept), home)
        return output if output.text.strip() else None
    output.metadata = {}
    if "data" in output:
        output.data.pop(_WIDGET, None)
        for kind in ("text/plain", "text/html", "text/markdown"):
            if kind in output.data:
                output.data[kind] = _clean_text(output.data[kind], home)
        if not output.data:
            return None
    return output


def _merge_streams(outputs: list[Any]) -> list[Any]:
    """Join neighbouring pieces of one stream: where they broke is a matter of timing."""
    merged: list[Any] = []
    for output in outputs:
        if (
            merged
            and output.output_type == merged[-1].output_type == "stream"
            and output.name == merged[-1].name
        ):
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged


def clean(notebook: Any, home: Path | str = "") -> Any:
    """Leave only what a reader needs and what a second run would write again, in place.

    Keeps sources, tags, outputs and the order of execution; drops timings, addresses, widget
    state, progress bars, and the version of Python. Ids stay; a cell without one gets one.
    home  the project's folder on this machine, which text outputs must not show
    """
    home = str(Path(home).resolve()) if home else "\0"
    notebook.metadata = {"kernelspec": dict(KERNEL), "language_info": {"name": "python"}}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    taken: set[str] = set()
    count = 0
    for cell in notebook.cells:
        cell["id"] = _cell_id(cell, taken)
        taken.add(cell["id"])
        tags = cell.metadata.get("tags", [])
        cell.metadata = {"tags": list(tags)} if tags else {}
        cell.source = cell.source.rstrip()
        if cell.cell_type != "code":
            continue
        if cell.execution_count is not None:
            count += 1
            cell.execution_count = count
        cleaned = [_clean_output(o, home) for o in _merge_streams(cell.outputs)]
        cell.outputs = [o for o in cleaned if o is not None]
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = cell.execution_count
    return notebook


def execute(path: Path | str) -> float:
    """Run a notebook from top to bottom in a fresh kernel, clean it, write it; returns seconds.

    The file is replaced only if every cell ran. Raises UserError naming the cell that did not.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError

    path = Path(path)
    if not path.exists():
        raise UserError(f"there is no notebook {path}: a path to an .ipynb file was expected.")
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    begun = time.perf_counter()
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError) as error:
        raise UserError(
            f"{path}: a cell stopped, so the file is left as it was. Fix the cell, then run the "
            f"same command again.\n{error}"
        ) from error
    seconds = time.perf_counter() - begun
    clean(notebook, home=path.resolve().parents[1])
    with atomic_path(path) as temporary:
        temporary.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    return seconds


def main(paths: list[str]) -> None:
    if not paths:
        raise SystemExit("usage: python tests/run_notebooks.py notebooks/00_start_here.ipynb ...")
    for path in paths:
        try:
            print(f"{path}: {execute(path):.0f} s", flush=True)
        except UserError as error:
            raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main(sys.argv[1:])
