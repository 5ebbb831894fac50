# tries: print the answer backwards and turn the writing round
# wall: grader
print('\u202e' + str(int(input()) * 2)[::-1])
