# tries: kill the worker that feeds it
# wall: signals
import os
import signal

try:
    os.kill(os.getppid(), signal.SIGKILL)
    print("stopped: process 1 of a namespace takes no signal from inside")
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
