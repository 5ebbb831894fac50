# tries: put a pipe where the worker may write, so that it waits for ever
# wall: files
import os

for folder in (".", ".."):
    for name in ("stdin", "stdout", "stderr", "result", "program.py", "program.cpp", "program"):
        try:
            os.mkfifo(os.path.join(folder, name))
        except OSError as error:
            print(f"stopped: {error}")
