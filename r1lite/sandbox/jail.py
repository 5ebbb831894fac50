"""The walls around a worker: which jails there are, and the command that starts each.

bubblewrap   the program of that name: new user, network, mount, process, IPC and host-name
             namespaces around a file system that holds an interpreter and a compiler
namespaces   the same with util-linux's unshare, where bubblewrap is not installed
unsafe       none: programs run as you, with limits on time, memory and output alone
"""

import os
import platform
import shutil
import sys
import sysconfig
import warnings
from functools import cache
from pathlib import Path

JAILS = ("bubblewrap", "namespaces", "unsafe")
WORKER = Path(__file__).with_name("worker.py")
SHOWN = "/worker.py"  # where programs see it: it may itself lie in /tmp, which is theirs
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
COMPILER = ("g++", "as", "ld")
LIBRARIES = ("/lib", "/lib64", "/lib32", "/libx32", "/usr/lib", "/usr/lib64")
HEADERS = ("/usr/include", "/usr/libexec/gcc")
LEAST_KERNEL = (5, 14)  # counts the processes of a namespace by themselves

# $1 bytes of /tmp, $2 the worker, then what to show, "--", what to cover, "--", what to start. The
# new root lies over /sys: there is one everywhere, nothing of it is shown, and so no folder has to
# be made that would stay where this process is killed. The worker itself lets go of /old: umount is
# not among what can be seen after pivot_root.
_BUILD = """
root=/sys; room=$1; worker=$2; shift 2
mount --make-rprivate / 2>/dev/null || true
mount -t tmpfs -o size=1m,mode=755 tmpfs "$root"
mkdir "$root/tmp" "$root/old"
mount -t tmpfs -o size="$room",mode=1777,nosuid,nodev tmpfs "$root/tmp"
show() {
  mkdir -p "$root${2%/*}"
  if [ -d "$1" ]; then mkdir -p "$root$2"; else : > "$root$2"; fi
  mount --bind "$1" "$root$2"
  case $1 in /dev/*) ;; *) mount -o remount,bind,ro,nosuid,nodev "$root$2" ;; esac
}
show "$worker" /worker.py
while [ "$1" != -- ]; do show "$1" "$1"; shift; done
shift
while [ "$1" != -- ]; do mount -t tmpfs -o ro,size=4k tmpfs "$root$1"; shift; done
shift
cd "$root"
pivot_root . old
exec "$@"
"""


@cache
def no_compiler() -> str:
    """Why C++ cannot be compiled here, which is also warned of, once; empty if it can."""
    lacking = ", ".join(name for name in COMPILER if not shutil.which(name, path="/usr/bin"))
    if lacking:
        what = "answers in C++ count as not checked. Install the compiler: apt install g++"
        warnings.warn(f"{lacking} not found in /usr/bin: {what}", stacklevel=2)
    return lacking and f"{lacking} not found in /usr/bin"


def visible() -> list[str]:
    """Paths that programs can read: the interpreter, the compiler, the libraries of both."""
    python = Path(sys.executable).resolve()
    paths = [python, Path(sysconfig.get_path("stdlib")).resolve()]
    paths += Path(sys.base_prefix, "lib").glob("*.so*")
    tools = [f"/usr/bin/{name}" for name in COMPILER]
    named = dict.fromkeys([*map(str, paths), *tools, *LIBRARIES, *HEADERS])
    return [p for p in named if os.path.exists(p)]  # a folder comes after what it also holds


def hidden() -> list[str]:
    """Folders of installed packages in what is visible: empty ones are put over them."""
    folders = [Path(sysconfig.get_path("stdlib")).resolve()]
    folders += [p for lib in LIBRARIES for p in Path(lib).glob("python*")]
    return sorted({str(p) for folder in folders for p in folder.glob("*-packages") if p.is_dir()})


def worker_command(worker: str, folder: str) -> list[str]:
    """The interpreter without site packages, the worker, and where it may write."""
    python = str(Path(sys.executable).resolve())
    return [python, "-I", "-S", "-B", "-X", "utf8", worker, folder]


def jail_command(jail: str, scratch: str, room: int) -> list[str]:
    """What to start, as a list of arguments.

    scratch  an empty folder for programs without a jail; a jail makes its own, in memory
    room     bytes that programs may write in all
    """
    if jail == "unsafe":
        return worker_command(str(WORKER), scratch)
    shown, root = visible(), os.geteuid() == 0
    if jail == "namespaces":
        words = "unshare --mount --pid --fork --kill-child --net --ipc --uts --cgroup"
        unshare = words.split() + ([] if root else ["--user", "--map-root-user"])
        build = ["sh", "-euc", _BUILD, "sh", str(room), str(WORKER), *shown, *DEVICES]
        build += ["--", *hidden(), "--"]
        return [*unshare, "--", *build, *worker_command(SHOWN, "/tmp")]
    command = "bwrap --unshare-ipc --unshare-pid --unshare-net --unshare-uts --unshare-cgroup-try"
    command += " --new-session --as-pid-1 --clearenv"
    words = command.split() + ([] if root else ["--unshare-user", "--disable-userns"])
    words += ["--perms", "1777", "--size", str(room), "--tmpfs", "/tmp"]  # shown may lie in it
    for folder in dict.fromkeys(map(os.path.dirname, shown)):
        words += ["--perms", "0755", "--dir", folder]
    for path in shown:
        words += ["--ro-bind", path, path]  # of a link: what it leads to
    for path in hidden():
        words += ["--tmpfs", path, "--remount-ro", path]
    for device in DEVICES:
        words += ["--dev-bind", device, device]
    words += ["--ro-bind", str(WORKER), SHOWN, "--remount-ro", "/"]
    return [*words, "--chdir", "/tmp", "--", *worker_command(SHOWN, "/tmp")]


def missing(jail: str) -> str | None:
    """Why a jail cannot be tried here, or None."""
    if sys.platform != "linux":
        return f"it needs Linux, this is {sys.platform}"
    if jail == "unsafe":
        return None
    kernel = platform.release().split("-")[0].split(".")[:2]
    if tuple(int(part) for part in kernel if part.isdigit()) < LEAST_KERNEL:
        return f"it needs Linux {'.'.join(map(str, LEAST_KERNEL))}, this is {platform.release()}"
    tool = {"bubblewrap": "bwrap", "namespaces": "unshare"}[jail]
    return None if shutil.which(tool) else f"{tool} is not installed"
