// tries: make a call by its number of another kind, which filters have forgotten
// wall: system calls
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <sys/syscall.h>
#include <unistd.h>

int main() {
#if defined(__x86_64__)
  long got = syscall(0x40000000 | 41, 1, 1, 0);  // socket, in the x32 way
#else
  long got = syscall(SYS_socket, 1, 1, 0);
#endif
  if (got == -1)
    std::printf("stopped: %s\n", std::strerror(errno));
  else
    std::printf("ESCAPED with %ld\n", got);
  return 1;
}
