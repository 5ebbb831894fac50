# tries: take the open files of the worker
# wall: files
import os

try:
    for name in os.listdir(f"/proc/{os.getppid()}/fd"):
        print("ESCAPED:", open(f"/proc/{os.getppid()}/fd/{name}").read(10))
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
