# tries: connect to this machine
# wall: network
import socket

try:
    socket.create_connection(("127.0.0.1", @PORT@), 1).send(b"hello")
    print("ESCAPED")
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
