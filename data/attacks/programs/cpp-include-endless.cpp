// tries: have the compiler read a file that never ends
// wall: compiler
#include "/dev/zero"

int main() { return 0; }
