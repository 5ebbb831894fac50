// tries: make a call through the old gate of 32-bit programs
// wall: system calls
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <sys/syscall.h>
#include <unistd.h>

int main() {
  long got = -1;
#if defined(__x86_64__)
  asm volatile("int $0x80" : "=a"(got) : "a"(359), "b"(1), "c"(1), "d"(0) : "memory");  // socket
  if (got < 0) {
    errno = -got;
    got = -1;
  }
#endif
  if (got == -1)
    std::printf("stopped: %s\n", std::strerror(errno));
  else
    std::printf("ESCAPED with %ld\n", got);
  return 1;
}
