# tries: backtrack for ever inside the regex engine
# wall: time
import re

re.match(r"(a+)+$", "a" * 60 + "b")
