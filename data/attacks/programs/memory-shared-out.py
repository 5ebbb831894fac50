# tries: let many children take their share each
# wall: memory, processes
import os
import time

for _ in range(64):
    try:
        if os.fork() == 0:
            block = bytearray(200 * 2**20)
            time.sleep(60)
    except OSError as error:
        print(f"stopped: {error}")
        break
else:
    print("ESCAPED with 64 children")
