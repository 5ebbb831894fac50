"""Every committed notebook: same anatomy, clean outputs, one in-order run. Nothing is executed."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from run_notebooks import clean, execute

from r1lite.records import UserError

ROOT = Path(__file__).resolve().parents[1]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MAX_CELLS, MAX_BYTES, MAX_CODE_LINES = 60, 300_000, 25
# A path that exists on one machine only.
HOME = re.compile(r"(?<![\w.])/(?:home|root|Users|work|tmp|var|opt|mnt|usr)/|[A-Z]:\\\\")


def read(path):
    return nbformat.read(path, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def tagged(notebook, tag):
    return [cell for cell in code(notebook) if tag in cell.metadata.get("tags", [])]


@pytest.fixture(params=PATHS, ids=[p.stem for p in PATHS])
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return read(path)


def test_there_are_notebooks():
    assert {"00_start_here", "04_grpo", "05_r1_zero"} <= {p.stem for p in PATHS}


def test_the_format_is_valid(path):
    nbformat.validate(json.loads(path.read_text(encoding="utf-8")))


def test_size(path, notebook):
    assert path.stat().st_size <= MAX_BYTES
    assert len(notebook.cells) <= MAX_CELLS
    for cell in code(notebook):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert len(lines) <= MAX_CODE_LINES, f"{cell.id} has {len(lines)} lines of code"


def test_one_set_up_cell_the_same_everywhere(notebook):
    cells = tagged(notebook, "setup")
    assert len(cells) == 1 and cells[0] is code(notebook)[0]
    assert cells[0].source == tagged(read(PATHS[0]), "setup")[0].source


def test_nothing_is_installed(notebook):
    for cell in notebook.cells:
        assert "pip install" not in cell.source and "conda install" not in cell.source, cell.id


def test_executed_in_order_without_errors(notebook):
    counts = [cell.execution_count for cell in code(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    kinds = {output.output_type for cell in code(notebook) for output in cell.outputs}
    assert "error" not in kinds
    with_output = [cell for cell in code(notebook) if cell.outputs]
    assert len(with_output) >= len(counts) / 2, "committed without its outputs"


def test_warnings_are_not_committed(notebook):
    for cell in code(notebook):
        for output in cell.outputs:
            assert output.get("name") != "stderr", f"{cell.id}: {output.text[:200]}"


def test_ids_are_stable_and_unique(notebook):
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    # names given by hand survive editing; the random ones of an editor (8 hex digits) tell nothing
    random_looking = [i for i in ids if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}.*)?", i)]
    assert not random_looking


def test_no_widget_state_addresses_or_timings(path, notebook):
    assert "widgets" not in notebook.metadata
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert "version" not in notebook.metadata.language_info
    assert "application/vnd.jupyter.widget" not in path.read_text(encoding="utf-8")
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"}, cell.id
        for output in cell.get("outputs", []):
            text = output.get("text", "") + json.dumps(
                {k: v for k, v in output.get("data", {}).items() if not k.startswith("image")}
            )
            assert not re.search(r"0x[0-9a-f]{6,}", text), cell.id
            assert "it/s" not in text and "step/s" not in text, cell.id


def test_no_path_of_one_machine(notebook):
    for cell in notebook.cells:
        texts = [cell.source]
        for output in cell.get("outputs", []):
            texts += [output.get("text", "")]
            texts += [v for k, v in output.get("data", {}).items() if k.startswith("text")]
        for text in texts:
            assert not HOME.search(text), f"{cell.id}: {HOME.search(text)}"


def test_anatomy(notebook):
    text = prose(notebook)
    assert re.match(r"# .*\?\n", text[0]), "the title is one question"
    for row in ("Before this", "You will be able to", "Time", "Needs"):
        assert f"| **{row}** |" in text[0]
    assert sum("### Predict first" in t for t in text) >= 2
    assert sum("### Find the bug" in t for t in text) >= 1
    assert any("## Paper vs here" in t and "| why |" in t for t in text)
    assert any("To try next" in t for t in text)
    assert any("Five questions" in t for t in text)


def test_exercises_are_stubs_that_check_themselves(notebook):
    checks = [cell for cell in tagged(notebook, "exercise") if "check." in cell.source]
    assert len(checks) >= 3
    for cell in tagged(notebook, "exercise"):
        assert re.search(r"^my_\w+ = None  # ", cell.source, re.MULTILINE), cell.id
    for cell in checks:
        assert "not tried yet" in "".join(o.get("text", "") for o in cell.outputs), cell.id


def test_deterministic_cells_are_compared(notebook):
    marked = [cell for cell in code(notebook) if "NBVAL_CHECK_OUTPUT" in cell.source]
    assert len(marked) >= 5
    for cell in marked:
        assert cell.source.startswith("# NBVAL_CHECK_OUTPUT\n"), cell.id
        assert cell.outputs, f"{cell.id} is compared and has no output"


def test_stochastic_cells_assert_a_range(notebook):
    asserts = [cell for cell in code(notebook) if re.search(r"^ *assert ", cell.source, re.M)]
    assert len(asserts) >= 2


def test_links_between_notebooks_exist(notebook):
    for name in re.findall(r"\]\((\d\d_\w+\.ipynb)\)", "\n".join(prose(notebook))):
        assert (ROOT / "notebooks" / name).exists(), name


def _dirty():
    stream = new_output("stream", name="stdout", text="half\rwhole\n")
    more = new_output("stream", name="stdout", text="at <f at 0x7f1234567890> in /x/home/runs\n")
    bar = new_output(
        "stream", name="stderr", text="GRPO: 50%|##   | 1/2 [00:01<00:01, 1.00s/step]\n"
    )
    widget = new_output(
        "display_data", data={"application/vnd.jupyter.widget-view+json": {}}, metadata={"a": 1}
    )
    cells = [
        new_markdown_cell("# A?", id="same"),
        new_code_cell(
            "x",
            id="other",
            execution_count=7,
            outputs=[stream, more, bar, widget],
            metadata={"execution": {"iopub.status.busy": "now"}, "tags": ["setup"]},
        ),
        new_code_cell("y  \n", execution_count=9, id="b"),
    ]
    notebook = new_notebook(cells=cells, metadata={"widgets": {"state": {}}, "signature": "s"})
    notebook.cells[1]["id"] = "same"
    return notebook


def test_cleaning_drops_what_a_second_run_would_change():
    notebook = clean(_dirty(), home="/x/home")
    first, second = code(notebook)
    assert [cell.execution_count for cell in (first, second)] == [1, 2]
    assert [o.text for o in first.outputs] == ["whole\nat <f at 0x0> in ./runs\n"]
    assert first.metadata == {"tags": ["setup"]} and second.source == "y"
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    ids = [cell.id for cell in notebook.cells]
    assert ids[0] == "same" and ids[2] == "b" and len(set(ids)) == 3
    nbformat.validate(notebook)


def test_cleaning_twice_changes_nothing():
    once = json.dumps(clean(_dirty(), home="/x/home"))
    assert json.dumps(clean(nbformat.from_dict(json.loads(once)), home="/x/home")) == once


def test_committed_notebooks_are_clean(path, notebook):
    before = json.dumps(notebook, sort_keys=True)
    assert json.dumps(clean(read(path)), sort_keys=True) == before


def test_a_failing_notebook_is_left_as_it_was(tmp_path):
    path = tmp_path / "notebooks" / "bad.ipynb"
    path.parent.mkdir()
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0", id="a")]), path)
    before = path.read_bytes()
    with pytest.raises(UserError, match="left as it was"):
        execute(path)
    assert path.read_bytes() == before
    with pytest.raises(UserError, match="there is no notebook"):
        execute(tmp_path / "none.ipynb")
