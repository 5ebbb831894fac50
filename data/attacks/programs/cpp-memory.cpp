// tries: take all memory and touch it
// wall: memory
#include <cstdio>
#include <cstdlib>
#include <cstring>

int main() {
  for (long n = 0; n < 4096; ++n) {
    char *block = static_cast<char *>(std::malloc(16 << 20));
    if (!block) {
      std::printf("stopped: malloc after %ld MiB\n", n * 16);
      return 1;
    }
    std::memset(block, 1, 16 << 20);
  }
  std::puts("ESCAPED with 64 GiB");
}
