# tries: interrupt the worker, the one signal that it may have a handler for
# wall: signals
import os
import signal

try:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        os.kill(os.getppid(), number)
    print("stopped: process 1 of a namespace takes no signal from inside")
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
