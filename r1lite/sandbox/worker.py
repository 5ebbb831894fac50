"""What runs inside the jail, as its process number 1: one child after the other, and nothing else.

A script of the standard library alone; outside, nothing imports it. A Python program runs in a fork
of this process, because starting an interpreter takes ten times as long, and a fork can read all
memory of what it was forked from. So this process never holds anything of any program: it is told
a number of seconds and given open files. The child alone reads the job, which has one test's input,
and writes to files that are read outside the jail. Right answers never come in here.

When the first process of a program has ended, or its time is up, every other process of the jail is
killed, so nothing is left for the next program.
"""

import __future__

import atexit
import builtins
import ctypes
import gc
import io
import json
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
import traceback

LIBC = ctypes.CDLL(None, use_errno=True)
SET_DUMPABLE, SET_NO_NEW_PRIVS, SET_SECCOMP, SECCOMP_FILTER = 4, 38, 22, 2
CAPABILITY_VERSION_3 = 0x20080522
DETACH, READ_ONLY_AGAIN = 2, 1 | 32 | 4096  # umount2; MS_RDONLY | MS_REMOUNT | MS_BIND
N_FILES = 5  # the job, and what will be the standard files: input, output, errors, result
ALONE = os.getpid() == 1  # in a namespace of processes of its own
EXIT, OPEN = os._exit, open  # a program may replace the ones in os and builtins
STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}  # the jail has no such devices

# What LeetCode has imported before it reads an answer. Names in annotations are not looked up, so
# that a class that only the page of a problem defines does no harm in a signature.
MODULES = "typing string re datetime collections heapq bisect copy math random statistics io sys "
MODULES += "itertools functools operator json"
LEETCODE = "".join(f"from {name} import *\n" for name in MODULES.split())
LEETCODE += f"import {', '.join(MODULES.split())}\nfrom builtins import *"
NAMES = {}  # what comes of it


def call(name, *args):
    if getattr(LIBC, name)(*args) != 0:
        raise OSError(ctypes.get_errno(), f"{name}{args[:1]}")


def lock_up(setup):
    """Give up everything that was needed to build the jail, for good."""
    if ALONE and os.path.isdir("/old"):  # the namespace jail still sees the machine's files there
        call("umount2", b"/old", DETACH)
        call("mount", None, b"/", None, READ_ONLY_AGAIN, None)
    if setup["uid"]:
        os.setgroups([])
        os.setresgid(setup["uid"], setup["uid"], setup["uid"])
        os.setresuid(setup["uid"], setup["uid"], setup["uid"])
    call("prctl", SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    call("capset", (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)())
    call("prctl", SET_DUMPABLE, 0, 0, 0, 0)  # or a program could read and write this process
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one signal that could reach process 1
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    code = bytes(setup["seccomp"])
    if code:

        class Program(ctypes.Structure):
            _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]

        program = Program(len(code) // 8, code)
        call("prctl", SET_SECCOMP, SECCOMP_FILTER, ctypes.byref(program), 0, 0)


def limit(job):
    """In the child: what one process may use. A limit that cannot be set ends the program."""
    for what, most in (
        (resource.RLIMIT_AS, job["memory_bytes"]),
        (resource.RLIMIT_CPU, int(job["seconds"]) + 1),
        (resource.RLIMIT_FSIZE, max(job["file_bytes"], job["output_bytes"] + 1)),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_NPROC, job["processes"] + 1),  # this worker is the one more
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        if what != resource.RLIMIT_NPROC or ALONE:
            resource.setrlimit(what, (most, most))


def sweep(child):
    """Kill and bury every process that the program has left."""
    try:
        if ALONE:
            os.kill(-1, signal.SIGKILL)
        else:
            os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        pass
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def watch(seconds, files, folder):
    """Fork a child that does the job, and end whatever has become of it. Returns how it went."""
    begun, child = time.monotonic(), os.fork()
    if not child:
        code = 1
        try:
            code = work(files, folder)
        except BaseException as error:  # the program's own, also SystemExit
            code = report(error)
        finally:
            EXIT(code)
    for file in files:
        os.close(file)
    ended, code, usage = os.pidfd_open(child), None, None
    in_time = select.select([ended], [], [], seconds)[0]
    took = time.monotonic() - begun
    if in_time:
        _, code, usage = os.wait4(child, 0)
    sweep(child)
    os.close(ended)
    return {
        "status": "ended" if in_time else "time",
        "exit": os.waitstatus_to_exitcode(code) if in_time else None,
        "seconds": round(took, 4),
        "memory": usage.ru_maxrss * 1024 if in_time else None,
    }


def work(files, folder):
    """In the child: read the job, and do it with the other files as the standard ones."""
    os.setsid()
    job = read(files[0])
    for number, file in enumerate(files[1:]):
        os.dup2(file, number + 100)
    for number in range(N_FILES - 1):
        os.dup2(number + 100, number, inheritable=number < 3)
    os.closerange(N_FILES - 1, 1024)
    if job["do"] != "wipe":
        enter(folder)
    limit(job)
    return DO[job["do"]](job)


def read(file):
    return json.loads(os.read(file, os.fstat(file).st_size))


def report(error):
    if isinstance(error, SystemExit) and isinstance(error.code, (int, type(None))):
        return (error.code or 0) & 255
    os.write(2, "".join(traceback.format_exception(error, limit=-3))[-4000:].encode())
    return 1


def parse(job):
    compile(job["source"], "program.py", "exec", dont_inherit=True)
    return 0


def run_python(job):
    """The program as a script, or one call of a function of it."""
    plain = {"encoding": "utf-8", "errors": "replace", "closefd": False}
    sys.stdin, sys.stdout, sys.stderr = (open(n, "rww"[n], **plain) for n in range(3))  # noqa: SIM115
    module = type(sys)("__main__")
    sys.modules["__main__"], sys.argv = module, ["program.py"]
    flags = __future__.annotations.compiler_flag if job["entry"] else 0
    try:
        if job["entry"]:
            sys.setrecursionlimit(50_000)
            module.__dict__.update(NAMES)
        code = compile(job["source"], "program.py", "exec", flags, dont_inherit=True)
        exec(code, module.__dict__)
        if job["entry"]:
            owner, _, name = job["entry"].rpartition(".")
            function = getattr(vars(module)[owner]() if owner else module, name)
            os.write(3, json.dumps(function(*job["test"])).encode())
    finally:  # what the interpreter does at the end of a script
        threading._shutdown()
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    return 0


def open_standard(file, *args, **named):
    """open, which also knows the standard files by their names."""
    number = STANDARD.get(str(file))
    return OPEN(file if number is None else os.dup(number), *args, **named)


def compile_cpp(job):
    with open("program.cpp", "w", encoding="utf-8", errors="replace") as file:
        file.write(job["source"])
    command = ["g++", "-std=c++17", "-O2", "-pipe", "-o", "program", "program.cpp"]
    os.execve("/usr/bin/g++", command, {"PATH": "/usr/bin", "TMPDIR": os.getcwd()})


def run_cpp(job):
    os.execve("./program", ["program"], {"PATH": "/usr/bin"})


def enter(folder):
    """Go to the folder of the job. Who has locked or replaced it fails the next tests."""
    here = os.path.join(folder, "job")
    os.makedirs(here, 0o700, exist_ok=True)
    os.chdir(here)


def wipe(job):
    """Remove what a program has left; 1 if something stays."""
    remove(sys.argv[1])
    return int(bool(os.listdir(sys.argv[1])))


def remove(folder):
    """All that a folder holds, also behind folders that a program has locked."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if os.path.islink(path) or not os.path.isdir(path):
            os.unlink(path)
        else:
            os.chmod(path, 0o700)
            remove(path)
            os.rmdir(path)


DO = {f.__name__: f for f in (parse, run_python, compile_cpp, run_cpp, wipe)}


def main():
    control, folder = socket.socket(fileno=0), sys.argv[1]
    os.environ.clear()
    os.chdir(folder)
    setup = socket.recv_fds(control, 16, 1)[1][0]
    lock_up(read(setup))
    os.close(setup)
    builtins.exit = builtins.quit = sys.exit  # as site has them
    builtins.open = io.open = open_standard
    # Imports, and the first compile(), cost time that not every fork is to spend.
    exec(compile(LEETCODE, "leetcode", "exec"), NAMES)
    gc.freeze()
    control.send(b"{}")
    try:
        while (message := socket.recv_fds(control, 64, N_FILES))[0]:  # empty: nobody is there now
            seconds, files, *_ = message
            control.send(json.dumps(watch(float(seconds), files, folder)).encode())
    finally:
        if not ALONE:  # without a jail the folder is the machine's, and who made it may be killed
            remove(folder)
            os.rmdir(folder)


if __name__ == "__main__":
    main()
