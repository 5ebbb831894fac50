# tries: map memory past the allocator
# wall: memory
import mmap

try:
    block = mmap.mmap(-1, 16 * 2**30)
    for i in range(0, 16 * 2**30, 4096):
        block[i] = 1
    print("ESCAPED")
except (OSError, ValueError, OverflowError) as error:
    print(f"stopped: {error}")
