"""What runs inside the jail, as its process number 1: one program after the other.

A script of the standard library alone; outside, nothing imports it. It reads jobs from its standard
input and answers on its standard output, both as lines of JSON. It never holds a right answer: it
sends back what a program wrote, and the judging is done outside.

A Python program runs in a fork of this process, because starting an interpreter takes ten times as
long; a C++ program is compiled and started. When the first process of a program has ended, or its
time is up, every other process of the jail is killed, so nothing is left for the next program.
"""

import base64
import ctypes
import functools
import gc
import io
import json
import os
import resource
import selectors
import signal
import sys
import time
import traceback

LIBC = ctypes.CDLL(None, use_errno=True)
SET_DUMPABLE, SET_NO_NEW_PRIVS, SET_SECCOMP, SECCOMP_FILTER = 4, 38, 22, 2
CAPABILITY_VERSION_3 = 0x20080522
DETACH, READ_ONLY_AGAIN = 2, 1 | 32 | 4096  # umount2; MS_RDONLY | MS_REMOUNT | MS_BIND
LINE = 64 * 2**20  # bytes of one job
ALONE = os.getpid() == 1  # in a namespace of processes of its own
EXIT = os._exit  # a program may replace the one in os


def call(name, *args):
    if getattr(LIBC, name)(*args) != 0:
        raise OSError(ctypes.get_errno(), f"{name}{args[:1]}")


def lock_up(setup):
    """Give up everything that was needed to build the jail, for good."""
    if os.path.isdir("/old"):  # the namespace jail still sees the machine's files there
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
    code = base64.b64decode(setup["seccomp"])
    if code:

        class Program(ctypes.Structure):
            _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]

        program = Program(len(code) // 8, code)
        call("prctl", SET_SECCOMP, SECCOMP_FILTER, ctypes.byref(program), 0, 0)


def limit(job, memory, seconds):
    """In the child: what one process may use. A limit that cannot be set ends the program."""
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, int(seconds) + 1),
        (resource.RLIMIT_FSIZE, job["file_bytes"]),
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


def start(job, stdin, seconds, memory, work):
    """Fork; `work` runs in the child. Returns (process id, its output, errors, result)."""
    pipes = [os.pipe() for _ in range(3)]
    with open("stdin", "wb") as file:
        file.write(stdin)
    given = os.open("stdin", os.O_RDONLY)
    os.unlink("stdin")
    child = os.fork()
    if child:
        os.close(given)
        for _, write in pipes:
            os.close(write)
        return child, [read for read, _ in pipes]
    code = 1
    try:
        os.setsid()
        for number, target in enumerate([given, *(write for _, write in pipes)]):
            os.dup2(target, number + 100)
        for number in range(4):
            os.dup2(number + 100, number, inheritable=number < 3)
        os.closerange(4, 1024)
        limit(job, memory, seconds)
        code = work()
    except BaseException as error:  # the program's own, also SystemExit
        code = report(error)
    finally:
        EXIT(code)


def report(error):
    if isinstance(error, SystemExit) and isinstance(error.code, (int, type(None))):
        return (error.code or 0) & 255
    os.write(2, "".join(traceback.format_exception(error, limit=-3))[-4000:].encode())
    return 1


def watch(child, pipes, seconds, most_bytes):
    """Read until the child ends, or time or output runs out. Returns how it went."""
    begun, names = time.monotonic(), ("stdout", "stderr", "result")
    found = {name: b"" for name in names}
    status, ended = None, os.pidfd_open(child)
    with selectors.DefaultSelector() as ready:
        for name, pipe in zip(names, pipes):
            os.set_blocking(pipe, False)
            ready.register(pipe, selectors.EVENT_READ, name)
        ready.register(ended, selectors.EVENT_READ, None)
        while status is None:
            left = begun + seconds - time.monotonic()
            events = ready.select(left) if left > 0 else []
            if left <= 0:
                status = "time"
            for key, _ in events:
                if key.data and not drain(key, found, most_bytes):
                    ready.unregister(key.fd)
            if sum(map(len, found.values())) > most_bytes:
                status = "output"
            elif not status and any(key.data is None for key, _ in events):
                status = "ended"
        took = time.monotonic() - begun
        code, usage = None, None
        if status == "ended":
            _, code, usage = os.wait4(child, 0)
        sweep(child)
        for key in list(ready.get_map().values()):
            if key.data and status == "ended":
                drain(key, found, most_bytes)
    for descriptor in (*pipes, ended):
        os.close(descriptor)
    if sum(map(len, found.values())) > most_bytes:
        status = "output"
    return {
        "status": status,
        "exit": None if code is None else os.waitstatus_to_exitcode(code),
        "seconds": round(took, 4),
        "memory": usage.ru_maxrss * 1024 if usage else None,
        **{name: text[:most_bytes].decode("utf-8", "replace") for name, text in found.items()},
    }


def drain(key, found, most_bytes):
    """Read what is there; False once the pipe is at its end."""
    while len(found[key.data]) <= most_bytes:
        try:
            part = os.read(key.fd, 65536)
        except BlockingIOError:
            return True
        if not part:
            return False
        found[key.data] += part
    return True


def run_python(job, test):
    """In the child: the program as a script, or one call of a function of it."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        raw = io.FileIO(number, mode, closefd=False)
        buffer = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw)
        setattr(sys, name, io.TextIOWrapper(buffer, encoding="utf-8", errors="replace"))
    module = type(sys)("__main__")
    sys.modules["__main__"], sys.argv = module, ["program.py"]
    try:
        code = compile(job["source"], "program.py", "exec", dont_inherit=True)
        exec(code, module.__dict__)
        if job["entry"]:
            owner, _, name = job["entry"].rpartition(".")
            function = getattr(vars(module)[owner]() if owner else module, name)
            os.write(3, json.dumps(function(*test)).encode())
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    return 0


def run(job, stdin, seconds, memory, work):
    return watch(*start(job, stdin, seconds, memory, work), seconds, job["output_bytes"])


def translate(job):
    """Compile the program, or see whether it could be: an answer of the compiler as of a run."""
    source, seconds = job["source"], job["compile_seconds"]
    if job["language"] == "python":

        def parse():
            compile(source, "program.py", "exec", dont_inherit=True)
            return 0

        return run(job, b"", job["seconds"], job["memory_bytes"], parse)
    with open("program.cpp", "w", encoding="utf-8", errors="replace") as file:
        file.write(source)
    command = ["g++", "-std=c++17", "-O2", "-pipe", "-o", "program", "program.cpp"]
    around = {"PATH": "/usr/bin", "TMPDIR": os.getcwd()}
    roomy = job | {"file_bytes": 64 * 2**20, "processes": max(job["processes"], 16)}
    work = functools.partial(os.execve, "/usr/bin/g++", command, around)
    return run(roomy, b"", seconds, job["compile_bytes"], work)


def enter(folder):
    """Go to the folder of the job: programs may have locked, removed or replaced it."""
    here = os.path.join(folder, "job")
    for path in (folder, here):
        if os.path.isdir(path) and not os.path.islink(path) and os.stat(path).st_uid == os.getuid():
            os.chmod(path, 0o1777 if path is folder else 0o700)
    if not os.path.isdir(here) or os.path.islink(here):
        if os.path.lexists(here):
            os.unlink(here)
        os.mkdir(here, 0o700)
    os.chdir(here)


def wipe(folder):
    """Remove what a program has left, also behind folders that it has locked."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if os.path.islink(path) or not os.path.isdir(path):
            os.unlink(path)
        else:
            os.chmod(path, 0o700)
            wipe(path)
            os.rmdir(path)


def run_job(job, folder):
    """Every test of one program: {"compiled": ..., "runs": [...], "clean": is nothing left}."""
    try:
        enter(folder)
        compiled, runs = translate(job), []
        tests = job["tests"] if compiled["exit"] == 0 else []
        for test in tests:
            enter(folder)
            if job["language"] == "cpp":
                work = functools.partial(os.execve, "./program", ["program"], {"PATH": "/usr/bin"})
            else:
                work = functools.partial(run_python, job, test)
            stdin = b"" if job["entry"] else test.encode()
            runs.append(run(job, stdin, job["seconds"], job["memory_bytes"], work))
            if job["stop_early"] and (runs[-1]["status"] != "ended" or runs[-1]["exit"] != 0):
                break
        answer = {"compiled": compiled, "runs": runs}
    finally:
        os.chdir(folder)
    try:
        enter(folder)
        os.chdir(folder)
        wipe(folder)
    except (OSError, RecursionError):
        pass  # what could not be removed is seen below; a new jail will be clean
    return answer | {"clean": not os.listdir(folder)}


def main():
    jobs, answers = os.fdopen(0, "rb", closefd=False), os.fdopen(1, "wb", closefd=False)
    folder = sys.argv[1]
    os.environ.clear()
    os.chdir(folder)
    lock_up(json.loads(jobs.readline(LINE)))
    exec(compile("", "warm-up", "exec"), {})  # the first costs a millisecond: not in every fork
    gc.freeze()
    answers.write(b'{"ready": true}\n')
    answers.flush()
    while line := jobs.readline(LINE):
        answers.write(json.dumps(run_job(json.loads(line), folder)).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()
