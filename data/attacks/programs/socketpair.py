# tries: make a pair of sockets, in order to hand open files around
# wall: network
import asyncio
import socket

for make in (socket.socketpair, asyncio.new_event_loop):
    try:
        make()
        print("ESCAPED")
    except Exception as error:
        print(f"stopped: {type(error).__name__}: {error}")
