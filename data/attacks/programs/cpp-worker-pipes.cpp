// tries: talk to the grader as the worker does
// wall: grader
#include <unistd.h>

int main() {
  const char line[] = "{\"compiled\": null, \"runs\": [{\"status\": \"ended\", \"exit\": 0}]}\n";
  for (int number = 1; number < 64; ++number)
    if (write(number, line, sizeof line - 1) > 0 && number > 3) write(1, "ESCAPED\n", 8);
}
