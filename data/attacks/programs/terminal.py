# tries: type into the terminal of whoever started it
# wall: files
import fcntl
import termios

for number in range(3):
    try:
        fcntl.ioctl(number, termios.TIOCSTI, b"x")
        print("ESCAPED on", number)
    except OSError as error:
        print(f"stopped: {error}")
