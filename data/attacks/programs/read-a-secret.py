# tries: read a file of the user outside
# wall: files
try:
    print("ESCAPED:", open("@SECRET_FILE@").read())
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
