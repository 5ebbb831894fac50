# tries: take all memory at once
# wall: memory
try:
    block = bytearray(64 * 2**30)
    print("ESCAPED with", len(block))
except MemoryError:
    print("stopped: MemoryError")
