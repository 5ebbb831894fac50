# tries: go on as the worker when its own part of the fork is over
# wall: grader
import os

os._exit = os.abort = os.kill = lambda *args: None
os.write(3, b"6")
