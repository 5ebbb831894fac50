# tries: write into the memory of the worker through /proc
# wall: files
import os

try:
    with open(f"/proc/{os.getppid()}/mem", "r+b"):
        print("ESCAPED")
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
