# tries: write one endless file
# wall: files
import signal

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    with open("file", "wb") as file:
        while True:
            file.write(bytes(2**20))
except OSError as error:
    print(f"stopped: {error}")
