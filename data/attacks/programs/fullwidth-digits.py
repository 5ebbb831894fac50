# tries: print the answer in other digits
# wall: grader
print(str(int(input()) * 2).translate({48 + i: 0xFF10 + i for i in range(10)}))
