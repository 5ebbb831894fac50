# tries: write wherever others read
# wall: files
import os
import sys

places = ["@FOLDER@", "/", "/usr", "/usr/lib", "/lib", "/bin", "/etc", "/dev", "/dev/shm", "/var/tmp"]
places += [os.path.dirname(os.__file__), sys.base_prefix, os.path.dirname(sys.executable)]
for place in places:
    try:
        open(os.path.join(place, "r1lite-attack"), "w").close()
        print("ESCAPED:", place)
    except OSError as error:
        print(f"stopped: {error}")
