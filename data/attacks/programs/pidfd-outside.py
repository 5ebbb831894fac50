# tries: reach a process outside by a descriptor
# wall: signals
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
got = libc.syscall(434, @PID@, 0)  # pidfd_open
if got == -1:
    print(f"stopped: {os.strerror(ctypes.get_errno())}")
else:
    print("ESCAPED with", got)
