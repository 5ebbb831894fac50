# tries: change the root and climb out of it
# wall: system calls
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
os.mkdir("inner")
got = libc.chroot(b"inner")
if got == -1:
    print(f"stopped: {os.strerror(ctypes.get_errno())}")
else:
    print("ESCAPED with", got)
