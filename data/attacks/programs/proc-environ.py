# tries: read the environment of the worker and of a process outside
# wall: environment
import os

try:
    for pid in (1, os.getppid(), "@PID@"):
        text = open(f"/proc/{pid}/environ").read()
        print("ESCAPED:" if "@NAME@" in text else "nothing in", pid, text)
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
