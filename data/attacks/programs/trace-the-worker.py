# tries: have its own code called after it has ended
# wall: grader
import sys


class Late:
    def __del__(self):
        print("6")


keep = Late()
sys.settrace(lambda *args: None)
sys.exitfunc = lambda: print("100")
