# tries: read the keys that the kernel keeps for the user
# wall: system calls
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
got = libc.syscall(250, 0, -3, 1)  # keyctl
if got == -1:
    print(f"stopped: {os.strerror(ctypes.get_errno())}")
else:
    print("ESCAPED with", got)
