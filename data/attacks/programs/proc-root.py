# tries: look at the machine through the root of another process
# wall: files
import os

try:
    for pid in (1, "self", os.getppid()):
        print("ESCAPED:", open(f"/proc/{pid}/root@SECRET_FILE@").read())
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
