# tries: print a wrong line and overwrite it, as a terminal shows it
# wall: grader
print('no' + '\r' + str(int(input()) * 2))
