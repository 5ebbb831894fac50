# tries: print the right answer and crash
# wall: grader
import os

print(int(input()) * 2, flush=True)
os.abort()
