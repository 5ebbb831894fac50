# tries: print a wrong line and erase it, as a terminal shows it
# wall: grader
print('no\x1b[2K\x1b[1G' + str(int(input()) * 2))
