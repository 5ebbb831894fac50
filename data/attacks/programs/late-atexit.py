# tries: do its work after the program has ended
# wall: time
import atexit
import time

atexit.register(time.sleep, 10**6)
print("6")
