# tries: mount something over the interpreter
# wall: system calls
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
got = libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None)
if got == -1:
    print(f"stopped: {os.strerror(ctypes.get_errno())}")
else:
    print("ESCAPED with", got)
