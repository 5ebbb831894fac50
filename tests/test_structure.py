"""The house rules: one direction of imports, no circles, budgets, no eval, light imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "r1lite"
ORDER = (
    "records", "config", "dist", "runlog", "sandbox", "prompt", "world", "policy", "fast",
    "rewards",
    "evaluation", "learn", "attempts", "stages", "lab", "verbs", "__main__",
)  # fmt: skip
LEFTMOST = ("records", "config", "dist", "runlog")
CORE = ORDER[: ORDER.index("learn") + 1]
APART = ("__init__", "environment")  # the names of notebooks; set-up before anything is installed
FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = ("vllm", "bitsandbytes", "peft", "wandb", "trl", "tensorboard")


def house(path: Path) -> str:
    """The folder, or the file at the top, that a module belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def n_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path): path for path in FILES}


def imports(path: Path) -> set[str]:
    """Every r1lite module that a file imports, also inside functions, as full dotted names."""
    package = (
        dotted(path).split(".") if path.name == "__init__.py" else dotted(path).split(".")[:-1]
    )
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.split(".")[0] == "r1lite"}
        elif isinstance(node, ast.ImportFrom):
            stem = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*stem, *(node.module or "").split(".")]).strip(".")
            if base.split(".")[0] == "r1lite":
                names = {f"{base}.{a.name}" for a in node.names}
                found |= {name if name in MODULES else base for name in names}
    return found


def test_every_part_has_a_place_in_the_order():
    assert {house(path) for path in FILES} <= {*ORDER, *APART}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_folder_imports_only_from_folders_to_its_left(path):
    here = house(path)
    if here in APART:
        assert here == "__init__" or not imports(path)
        return
    for name in imports(path):
        there = name.split(".")[1] if "." in name else "__init__"
        if there == here or (here in LEFTMOST and there == "records"):
            continue
        assert there in ORDER, f"{path} imports {name}"
        assert ORDER.index(there) < ORDER.index(here), f"{path} imports {name}"


def test_no_circles():
    graph = {name: imports(path) - {name} for name, path in MODULES.items()}
    done, under_way = set(), []

    def visit(name):
        assert name not in under_way, " -> ".join([*under_way, name])
        if name in done:
            return
        under_way.append(name)
        for other in sorted(graph[name]):
            visit(other)
        done.add(under_way.pop())

    for name in graph:
        visit(name)


def test_the_check_of_imports_sees_what_it_should():
    """A reader of imports that finds nothing would pass every rule."""
    found = imports(PACKAGE / "learn" / "grpo.py")
    assert {"r1lite.config", "r1lite.policy.load", "r1lite.world", "r1lite.records"} <= found
    assert "r1lite.learn.update" in found
    assert "r1lite.lab.report" in imports(PACKAGE / "verbs.py")
    written = imports(PACKAGE / "stages" / "documents" / "__init__.py")
    assert {"r1lite.stages.documents.chat", "r1lite.world.science"} <= written


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_longer_than_300_lines(path):
    assert n_lines(path) <= 300


def n_code_lines(path: Path) -> int:
    """Lines without docstrings, comments and blanks: a budget on those would buy silence."""
    silent = set()
    for node in ast.walk(tree(path)):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            silent |= set(range(first.lineno, first.end_lineno + 1))
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    return sum(
        bool(text := line.strip()) and text[0] != "#" for n, line in lines if n not in silent
    )


def test_line_budgets():
    """The design's 500 for fast/. Its 5,000 for the rest of the core were held until models, data
    and answers as they are published came in: core and sum are to stay below what they are now."""
    by_house = {name: 0 for name in (*ORDER, *APART)}
    for path in FILES:
        by_house[house(path)] += n_code_lines(path)
    assert by_house["fast"] <= 500
    assert sum(by_house[name] for name in CORE if name != "fast") <= 5460
    assert sum(by_house.values()) <= 8730


def test_the_budget_counts_code_and_nothing_else(tmp_path):
    path = tmp_path / "a.py"
    path.write_text(
        '"""Two\nlines."""\n\n# why\nx = """a\nb"""\n\ndef f():\n    """One."""\n    return x\n'
    )
    assert n_code_lines(path) == 4


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_text_is_ever_run_as_code(path):
    if path == PACKAGE / "sandbox" / "worker.py":
        assert not any("r1lite.sandbox.worker" in imports(p) for p in FILES), "it runs in a jail"
        return
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec", "compile", "__import__"), node.lineno


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_are_never_imported_at_the_top(path):
    for node in tree(path).body:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        assert not {name.split(".")[0] for name in names} & set(HEAVY)


def test_importing_the_library_is_light_and_needs_no_network():
    code = (
        "import socket, sys\n"
        "def no(*a, **k): raise OSError('network')\n"
        "socket.socket.connect = socket.getaddrinfo = no\n"
        "import r1lite, r1lite.__main__\n"
        f"heavy = {(*HEAVY, 'matplotlib', 'IPython')!r}\n"
        "loaded = [name for name in heavy if name in sys.modules]\n"
        "assert not loaded, loaded\n"
        "missing = [name for name in r1lite.__all__ if not hasattr(r1lite, name)]\n"
        "assert not missing, missing\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_set_up_file_runs_on_the_standard_library_alone():
    names = set()
    for node in ast.walk(tree(PACKAGE / "environment.py")):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    assert names <= set(sys.stdlib_module_names)


def test_doctests_are_collected():
    settings = (PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert "--doctest-modules" in settings and 'testpaths = ["r1lite", "tests"]' in settings
    assert sum(">>>" in path.read_text(encoding="utf-8") for path in FILES) >= 4


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_file_and_every_public_class_says_what_it_is(path):
    module = tree(path)
    assert ast.get_docstring(module) or not module.body
    for node in module.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path.name}: {node.name}"
