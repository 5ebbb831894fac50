# tries: use up the numbers of files
# wall: files
try:
    for i in range(10**6):
        open(str(i), "w").close()
    print("ESCAPED")
except OSError as error:
    print(f"stopped: {error}")
