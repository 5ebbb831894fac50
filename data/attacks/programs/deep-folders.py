# tries: leave folders in folders, deeper than a path may be long
# wall: files
import os

for _ in range(3000):
    os.mkdir("x" * 20)
    os.chdir("x" * 20)
print("stopped: they are counted afterwards")
