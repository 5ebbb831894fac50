# tries: read the input of the tests that come after
# wall: grader
import os

text = os.read(0, 10**6)
os.lseek(0, 0, 0)
more = open("/proc/self/fd/0").read() if os.path.exists("/proc/self/fd/0") else ""
print("ESCAPED" if b"50" in text and b"3" in text.split() else "stopped: a test has its own input")
