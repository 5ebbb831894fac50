# tries: the same in one line without an end
# wall: output
import sys

while True:
    sys.stdout.write("x" * 10**5)
