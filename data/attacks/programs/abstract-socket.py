# tries: open a socket that has no file
# wall: network
import socket

try:
    door = socket.socket(socket.AF_UNIX)
    door.bind("\0r1lite-attack")
    door.listen()
    print("ESCAPED")
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
