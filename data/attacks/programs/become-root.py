# tries: become the administrator
# wall: system calls
import os

try:
    before = os.getresuid()
    os.setresuid(0, 0, 0)
    print("ESCAPED as root" if 0 not in before else "stopped: it is root of nothing", before)
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
