# tries: stop the interpreter inside one operation, where no signal handler runs
# wall: time
print(9**9**9)
