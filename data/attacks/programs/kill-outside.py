# tries: kill a process outside
# wall: signals
import os
import signal

try:
    os.kill(@PID@, signal.SIGKILL)
    print("stopped: that number is somebody else inside")
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
