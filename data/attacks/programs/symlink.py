# tries: read a file outside through a symbolic link
# wall: files
import os

try:
    os.symlink("@SECRET_FILE@", "link")
    print("ESCAPED:", open("link").read())
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
