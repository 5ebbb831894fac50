// tries: have the compiler read a file of the user and complain of its text
// wall: compiler
#include "@SECRET_FILE@"

int main() { return 0; }
