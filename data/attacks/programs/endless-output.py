# tries: fill the memory of whoever reads its output
# wall: output
while True:
    print('x' * 10**5)
