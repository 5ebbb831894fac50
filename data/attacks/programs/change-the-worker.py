# tries: change the worker for the programs that come after
# wall: files
import json
import os
import sys

try:
    path = sys.modules["__main__"].__dict__.get("__file__") or "/worker.py"
    for name in (path, "/worker.py", os.__file__, json.__file__):
        with open(name, "a") as file:
            file.write("\nprint('ESCAPED')\n")
        print("ESCAPED:", name)
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
