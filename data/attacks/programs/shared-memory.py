# tries: leave memory that outlives every process
# wall: system calls
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
got = libc.shmget(0x7231, 4096, 0o1666)
if got == -1:
    print(f"stopped: {os.strerror(ctypes.get_errno())}")
else:
    print("ESCAPED with", got)
