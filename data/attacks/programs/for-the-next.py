# tries: leave a file for the next program
# wall: files
import os

for folder in (".", "..", "/tmp"):
    with open(os.path.join(folder, "json.py"), "w") as file:
        file.write("print('ESCAPED')\n")
os.chmod(".", 0)
print("stopped: the folder is emptied, and nothing is imported from it")
