# tries: use a file that was left open when it was started
# wall: files
import os

found = []
for number in range(4, 1024):  # 0 to 3 are its own: input, output, errors, result
    try:
        os.fstat(number)
        found.append(number)
    except OSError:
        pass
print("ESCAPED: open are" if found else "stopped: nothing is open", found)
