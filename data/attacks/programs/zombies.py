# tries: leave children that nobody buries
# wall: processes
import os

for _ in range(6):
    if os.fork() == 0:
        os._exit(0)
print("stopped: they are counted afterwards")
