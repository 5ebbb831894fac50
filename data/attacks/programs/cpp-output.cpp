// tries: fill the memory of whoever reads its output
// wall: output
#include <cstdio>

int main() {
  for (;;) std::fputs("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", stdout);
}
