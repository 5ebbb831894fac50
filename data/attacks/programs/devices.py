# tries: make and open devices
# wall: files
import os
import stat

for path in ("/dev/mem", "/dev/kmsg", "/dev/sda", "/dev/tty", "/dev/ptmx", "/dev/fuse"):
    try:
        print("ESCAPED:", os.open(path, os.O_RDWR))
    except OSError as error:
        print(f"stopped: {error}")
try:
    os.mknod("memory", 0o666 | stat.S_IFCHR, os.makedev(1, 1))
    print("ESCAPED:", open("memory", "rb").read(4))
except OSError as error:
    print(f"stopped: {error}")
