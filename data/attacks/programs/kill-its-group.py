# tries: kill the group that it was started in
# wall: signals
import os
import signal

try:
    os.killpg(os.getpgid(os.getppid()), signal.SIGKILL)
    print("ESCAPED: the group of the worker took it")
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
