// tries: read a file of the user outside
// wall: files
#include <cerrno>
#include <cstdio>
#include <cstring>

int main() {
  char text[100] = "";
  if (FILE *file = std::fopen("@SECRET_FILE@", "r"))
    std::printf("ESCAPED: %s\n", std::fgets(text, sizeof text, file));
  else
    std::printf("stopped: %s\n", std::strerror(errno));
}
