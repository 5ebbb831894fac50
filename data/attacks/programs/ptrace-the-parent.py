# tries: take control of the worker as a debugger does
# wall: system calls
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
got = libc.ptrace(16, os.getppid(), 0, 0)  # PTRACE_ATTACH
if got == -1:
    print(f"stopped: {os.strerror(ctypes.get_errno())}")
else:
    print("ESCAPED with", got)
