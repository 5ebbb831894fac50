# tries: wait without using the processor
# wall: time
import time

time.sleep(10**6)
