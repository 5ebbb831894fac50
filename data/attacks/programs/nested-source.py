# tries: overflow the parser
# wall: compiler
print(eval('(' * 10**6 + ')' * 10**6))
