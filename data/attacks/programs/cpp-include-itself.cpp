// tries: have the compiler read the program again and again
// wall: compiler
#include __FILE__
#include __FILE__

int main() { return 0; }
