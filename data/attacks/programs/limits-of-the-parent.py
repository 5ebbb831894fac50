# tries: take away the limits of another process
# wall: system calls
import os
import resource

try:
    resource.prlimit(os.getppid(), resource.RLIMIT_NPROC, (1, 1))
    print("ESCAPED: the worker cannot fork any more")
except OSError as error:
    print(f"stopped: {error}")
