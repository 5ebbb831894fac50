# tries: start threads until nothing else can run
# wall: processes
import threading
import time

n = 0
try:
    while n < 5000:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        n += 1
    print("ESCAPED with 5000 threads", flush=True)
except RuntimeError as error:
    print("stopped:", error, "after", n, flush=True)
