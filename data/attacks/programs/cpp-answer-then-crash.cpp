// tries: print the right answer and crash
// wall: grader
#include <csignal>
#include <cstdio>

int main() {
  int x;
  std::scanf("%d", &x);
  std::printf("%d\n", 2 * x);
  std::fflush(stdout);
  std::raise(SIGSEGV);
}
