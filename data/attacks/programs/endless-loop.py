# tries: never end
# wall: time
while True:
    pass
