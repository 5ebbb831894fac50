# tries: overflow the stack below the interpreter
# wall: memory
import sys

sys.setrecursionlimit(10**9)


def fall(x):
    return fall([x].__repr__() and x)


fall(0)
