// tries: kill the worker that feeds it, and everybody else
// wall: signals
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <csignal>
#include <unistd.h>

int main() {
  kill(getppid(), SIGKILL);
  kill(@PID@, SIGKILL);
  int got = kill(-1, SIGKILL);
  std::printf("stopped: %s\n", got ? std::strerror(errno) : "nobody else was there");
}
