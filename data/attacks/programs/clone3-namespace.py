# tries: the same by the newer call, whose flags a filter cannot read
# wall: system calls
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
flags = (ctypes.c_uint64 * 11)(0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0)
got = libc.syscall(435, flags, 88)  # clone3
if got == 0:
    os._exit(0)
if got == -1:
    print(f"stopped: {os.strerror(ctypes.get_errno())}")
else:
    print("ESCAPED with", got)
