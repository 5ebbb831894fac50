# tries: remove the folder that the next test starts in
# wall: files
import os

here = os.getcwd()
for name in os.listdir("."):
    os.unlink(name)
os.rmdir(here)
os.symlink("/usr/lib", here)
