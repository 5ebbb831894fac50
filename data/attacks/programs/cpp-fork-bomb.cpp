// tries: fork until nothing else can run
// wall: processes
#include <unistd.h>

int main() {
  for (;;) fork();
}
