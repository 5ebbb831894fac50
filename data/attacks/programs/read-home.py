# tries: look around in homes and mounted folders
# wall: files
import os
import sys

for path in ("/root", "/home", "/etc", "/mnt", "/srv", "/var", "/workspace", "/proc", "/sys"):
    try:
        found = os.listdir(path)
        way = sys.base_prefix.removeprefix(path).strip("/").split("/")[0]
        print("stopped: only the interpreter" if found == [way] else f"ESCAPED: {path} {found[:5]}")
    except OSError as error:
        print(f"stopped: {error}")
