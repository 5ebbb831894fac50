# tries: kill whatever it may
# wall: signals
import os
import signal

try:
    os.kill(-1, signal.SIGKILL)
    print("stopped: it may kill nothing but itself")
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
