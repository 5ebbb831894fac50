# tries: find the right answers in the frames below it
# wall: grader
import sys

frame = sys._getframe()
while frame := frame.f_back:
    for name, value in frame.f_locals.items():
        if name in ("expected", "gold", "answer") and "6" in repr(value):
            print("ESCAPED:", name, value)
print("stopped: right answers never enter the jail")
