# tries: fill the memory of whoever reads its errors
# wall: output
import sys

while True:
    sys.stderr.write("x" * 10**5 + "\n")
