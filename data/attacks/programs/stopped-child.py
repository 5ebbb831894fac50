# tries: hide a child by stopping it
# wall: processes
import os
import signal
import time

child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(60)
time.sleep(0.1)
print("stopped: it is counted afterwards")
