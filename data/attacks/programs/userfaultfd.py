# tries: hold the kernel in the middle of a call
# wall: system calls
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
got = libc.syscall(323, 0)
if got == -1:
    print(f"stopped: {os.strerror(ctypes.get_errno())}")
else:
    print("ESCAPED with", got)
