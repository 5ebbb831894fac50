# tries: stop the worker that feeds it
# wall: signals
import os
import signal

try:
    os.kill(os.getppid(), signal.SIGSTOP)
    print("stopped: process 1 of a namespace takes no signal from inside")
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
