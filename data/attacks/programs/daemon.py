# tries: stay behind as a daemon and write later
# wall: processes
import os
import time

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(0.5)
        open("@FOLDER@/r1lite-attack-daemon", "w").close()
        time.sleep(60)
    os._exit(0)
os.wait()
print("stopped: the daemon is counted afterwards")
