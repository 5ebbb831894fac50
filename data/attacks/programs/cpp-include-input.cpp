// tries: have the compiler wait for input
// wall: compiler
#include "/dev/stdin"
#include "/proc/self/fd/0"

int main() { return 0; }
