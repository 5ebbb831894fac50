# tries: read a file outside through a hard link
# wall: files
import os

try:
    os.link("@SECRET_FILE@", "link")
    print("ESCAPED:", open("link").read())
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
