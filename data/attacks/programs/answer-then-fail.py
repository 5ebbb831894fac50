# tries: print the right answer and end with an error
# wall: grader
print(int(input()) * 2)
raise SystemExit(3)
