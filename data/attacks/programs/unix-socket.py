# tries: talk to a service through its socket file
# wall: network
import socket

try:
    link = socket.socket(socket.AF_UNIX)
    link.connect("@SOCKET@")
    print("ESCAPED")
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
