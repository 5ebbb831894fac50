# tries: make the compiler of the interpreter do the work
# wall: time
def never_called():
    return 2 ** (10 ** 9) % 7 + len('x' * (4096 * 1024))


print(7 ** (9 ** 9))
