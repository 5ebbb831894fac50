# tries: close its output, so that whoever reads to the end believes it has ended
# wall: time
import os
import time

os.close(1)
os.close(2)
time.sleep(10**6)
