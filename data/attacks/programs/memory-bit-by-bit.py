# tries: take all memory in small pieces
# wall: memory
kept = []
try:
    while True:
        kept.append(bytearray(2**20))
        if len(kept) > 2**14:
            raise SystemExit("ESCAPED with 16 GiB")
except MemoryError:
    size = len(kept)
    del kept
    print("stopped: MemoryError after", size, "MiB")
