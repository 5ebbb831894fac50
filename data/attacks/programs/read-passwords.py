# tries: read the list of users and their passwords
# wall: files
try:
    for path in ("/etc/shadow", "/etc/passwd"):
        print("ESCAPED:", open(path).read(40))
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
