# tries: walk out of its folder
# wall: files
try:
    print("ESCAPED:", open("../" * 30 + "@SECRET_FILE@".lstrip("/")).read())
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
