# tries: leave memory with a name for others
# wall: files
from multiprocessing import shared_memory

try:
    print("ESCAPED:", shared_memory.SharedMemory("r1lite-attack", create=True, size=64).name)
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")
