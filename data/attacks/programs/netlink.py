# tries: ask the kernel about the network
# wall: network
import socket

try:
    print("ESCAPED:", socket.socket(16, socket.SOCK_RAW, 0))
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
