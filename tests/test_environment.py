"""Set-up: what a kill left is repaired, what is missing is named; nothing is installed here."""

import ast
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from r1lite import environment

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture
def calls(monkeypatch):
    """What set-up would run, but for making the environment itself."""
    asked, real = [], environment._run

    def run(command, failed):
        asked.append(command)
        if "venv" in command:
            real(command, failed)

    monkeypatch.setattr(environment, "_run", run)
    return asked


def works(folder: Path) -> bool:
    command = [str(environment.venv_python(folder)), "-m", "pip", "--version"]
    return subprocess.run(command, capture_output=True).returncode == 0


def break_python(folder):
    environment.venv_python(folder).unlink()


def break_pip(folder):
    (pip,) = folder.rglob("site-packages/pip/__init__.py")
    pip.unlink()


@pytest.mark.parametrize("broken", [break_python, break_pip])
def test_an_environment_that_is_half_made_is_made_whole(tmp_path, calls, broken):
    """Killed at any moment: before Python is there, or while pip is unpacked."""
    folder = tmp_path / ".venv"
    environment.make_venv(folder)
    broken(folder)
    assert not environment._has_pip(environment.venv_python(folder))
    environment.set_up(folder, "requirements.txt")
    assert works(folder) and calls[-1][1:4] == ["-m", "pip", "install"]
    assert not environment._begun(folder).exists()
    n = len(calls)
    environment.set_up(folder, "requirements.txt")
    assert len(calls) == n, "what is whole is left alone"


def test_one_that_was_made_anew_by_somebody_else_is_not_emptied(tmp_path, calls):
    """After a set-up that failed: uv's environments, for one, have no pip."""
    folder = tmp_path / ".venv"
    environment.make_venv(folder)
    assert environment._begun(folder).exists()
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "theirs").write_text("mine")
    environment.make_venv(folder)
    assert (folder / "theirs").read_text() == "mine"


def test_an_environment_of_somebody_else_is_not_emptied(tmp_path, monkeypatch):
    folder = tmp_path / ".venv"
    folder.mkdir()
    (folder / "mine").write_text("x")
    asked = []
    monkeypatch.setattr(environment, "_run", lambda command, failed: asked.append(command))
    with pytest.raises(SystemExit, match="has no pip. Delete it"):
        environment.make_venv(folder)
    assert "--clear" not in asked[0] and (folder / "mine").exists()


def test_a_place_that_cannot_be_written_to_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="set-up stopped: .*cannot be written"):
        environment.make_venv(tmp_path / "file" / ".venv")


@pytest.mark.parametrize("lost", ["venv", "ensurepip"])
def test_a_python_without_venv_is_named(monkeypatch, lost):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == lost else name)
    with pytest.raises(SystemExit, match=r"apt install python3\.\d+-venv"):
        environment.check_python()


@pytest.mark.parametrize("version", [(3, 6, 9), (3, 9, 0), (3, 14, 0)])
def test_another_python_is_one_line(monkeypatch, version):
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(SystemExit) as ended:
        environment.check_python()
    assert "3.10 to 3.13" in str(ended.value) and "\n" not in str(ended.value)


def test_old_pythons_can_read_the_set_up_and_the_first_lines_of_the_rest():
    for name in ("environment.py", "__main__.py", "__init__.py"):
        ast.parse((REPO / "r1lite" / name).read_text(encoding="utf-8"), feature_version=(3, 7))
    for node in ast.walk(ast.parse((REPO / "r1lite" / "environment.py").read_text())):
        if isinstance(node, ast.arg) and node.annotation:  # list[str] is of Python 3.9
            assert not isinstance(node.annotation, ast.Subscript), ast.unparse(node)


def test_a_kernel_without_the_packages_gets_a_hint():
    code = "import r1lite\nr1lite.train"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=REPO
    )
    assert "make lab" in done.stderr.splitlines()[-1] and "needs the package" in done.stderr


@pytest.mark.parametrize("same", [True, False])
def test_another_copy_of_the_library_is_noticed(tmp_path, same):
    (tmp_path / "r1lite").mkdir()
    (tmp_path / "r1lite" / "__init__.py").write_text("")
    code = (
        f"import sys, warnings; sys.prefix = {str((REPO if same else tmp_path) / '.venv')!r}\n"
        "with warnings.catch_warnings(record=True) as said:\n"
        "    warnings.simplefilter('always')\n    import r1lite\n"
        "print([str(w.message) for w in said if 'copy' in str(w.message)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO, check=True
    )
    assert ("PYTHONPATH" in done.stdout) is not same
