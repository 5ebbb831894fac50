# tries: let a child hold the output open after it has ended
# wall: processes
import os
import time

if os.fork() == 0:
    time.sleep(60)
print("6", flush=True)
os._exit(0)
