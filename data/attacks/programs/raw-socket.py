# tries: read every packet
# wall: network
import socket

try:
    print("ESCAPED:", socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3))
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
