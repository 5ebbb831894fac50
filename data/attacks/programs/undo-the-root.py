# tries: undo the change of root with what is left of the old one
# wall: system calls
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
got = libc.syscall(155, b".", b".")  # pivot_root
if got == -1:
    print(f"stopped: {os.strerror(ctypes.get_errno())}")
else:
    print("ESCAPED with", got)
