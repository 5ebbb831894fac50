# tries: print nothing but a beginning of the right answer
# wall: grader
print(str(int(input()) * 2)[:-1])
