# tries: take the name of a file of the worker, so that the next test cannot be fed
# wall: files
import os

for name in ("stdin", "stdout", "stderr", "result", "program.py", "program.cpp", "program"):
    try:
        os.mkdir(name)
    except OSError as error:
        print(f"stopped: {error}")
