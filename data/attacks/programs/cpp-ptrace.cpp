// tries: take control of the worker as a debugger does
// wall: system calls
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <sys/ptrace.h>
#include <unistd.h>

int main() {
  if (ptrace(PTRACE_ATTACH, getppid(), nullptr, nullptr) == -1)
    std::printf("stopped: %s\n", std::strerror(errno));
  else
    std::puts("ESCAPED");
}
