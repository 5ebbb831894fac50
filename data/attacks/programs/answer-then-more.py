# tries: print the right answer and then more
# wall: grader
print(int(input()) * 2)
print('and much more')
