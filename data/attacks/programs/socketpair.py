# tries: make a pair of sockets, in order to hand open files around
# wall: network
import socket

try:
    a, b = socket.socketpair()
    print("stopped: a pair of its own reaches nobody else")
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
