# tries: fill the disk
# wall: files
try:
    for i in range(64):
        with open(f"file{i}", "wb") as file:
            for _ in range(15):
                file.write(bytes(2**20))
    print("ESCAPED with", i)
except OSError as error:
    print(f"stopped: {error}")
