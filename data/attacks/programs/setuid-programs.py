# tries: start programs that run with other rights
# wall: files
import os

for path in ("/usr/bin/sudo", "/usr/bin/su", "/usr/bin/mount", "/usr/bin/passwd", "/usr/bin/bwrap"):
    try:
        os.execv(path, [path])
    except OSError as error:
        print(f"stopped: {error}")
