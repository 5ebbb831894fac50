# tries: break whoever decodes its output
# wall: grader
import os

os.write(1, bytes(range(256)) * 100 + b"\xed\xa0\x80\xff\xfe")
