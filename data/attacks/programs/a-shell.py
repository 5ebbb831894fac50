# tries: start a shell
# wall: files
import subprocess

try:
    print("ESCAPED:", subprocess.run(["/bin/sh", "-c", "id; cat @SECRET_FILE@"], capture_output=True, text=True).stdout)
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
