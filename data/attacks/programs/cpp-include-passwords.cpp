// tries: have the compiler read the passwords and complain of them
// wall: compiler
#include "/etc/shadow"
#include "/etc/passwd"

int main() { return 0; }
