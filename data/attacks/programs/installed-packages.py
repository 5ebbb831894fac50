# tries: read what is installed for this interpreter, and import it
# wall: files
import glob
import os

folders = glob.glob(os.path.dirname(os.__file__) + "/*-packages") + glob.glob("/usr/lib/python*/*-packages")
for folder in folders:
    if found := os.listdir(folder):
        print("ESCAPED:", found[0])
    try:
        open(os.path.join(folder, "left.py"), "w").close()
        print("ESCAPED: written")
    except OSError as error:
        print(f"stopped: {error}")
