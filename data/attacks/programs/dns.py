# tries: ask the network for a name
# wall: network
import socket

try:
    print("ESCAPED:", socket.getaddrinfo("example.org", 80))
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
