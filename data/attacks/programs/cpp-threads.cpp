// tries: start threads until nothing else can run
// wall: processes
#include <cstdio>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <vector>

int main() {
  std::vector<std::thread> all;
  try {
    while (all.size() < 2000) all.emplace_back([] { sleep(60); });
    std::puts("ESCAPED with 2000 threads");
  } catch (const std::system_error &error) {
    std::printf("stopped: %s after %zu\n", error.what(), all.size());
  }
  std::fflush(stdout);
  _exit(1);
}
