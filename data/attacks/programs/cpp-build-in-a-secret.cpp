// tries: have the assembler put a file of the user into the program
// wall: compiler
#include <cstdio>

asm(".global secret\nsecret:\n.incbin \"@SECRET_FILE@\"\n.byte 0\n");
extern char secret[];

int main() { std::printf("ESCAPED: %s\n", secret); }
