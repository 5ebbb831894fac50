# tries: find the right answers in the memory of the worker
# wall: grader
import gc

for found in gc.get_objects():
    if isinstance(found, dict) and {"output", "expected", "gold"} & {k for k in found if isinstance(k, str)}:
        answers = found.get("output") or found.get("expected") or found.get("gold")
        if answers in ("6", "100", ["6", "100"]):
            print("ESCAPED:", answers)
print("stopped: right answers never enter the jail")
