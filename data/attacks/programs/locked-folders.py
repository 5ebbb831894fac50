# tries: leave folders that the cleaner may not enter
# wall: files
import os

os.makedirs("a/b/c")
for name in ("a/b/c", "a/b", "a", ".."):
    open(os.path.join(name, "left"), "w").close()
    try:
        os.chmod(name, 0)
    except OSError as error:
        print(f"stopped: {error}")
