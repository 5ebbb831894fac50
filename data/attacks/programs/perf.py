# tries: watch the machine through its counters
# wall: system calls
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
got = libc.syscall(298, (ctypes.c_ubyte * 120)(1), 0, -1, -1, 0)
if got == -1:
    print(f"stopped: {os.strerror(ctypes.get_errno())}")
else:
    print("ESCAPED with", got)
