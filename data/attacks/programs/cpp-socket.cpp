// tries: connect to this machine
// wall: network
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <arpa/inet.h>
#include <sys/socket.h>

int main() {
  int link = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in there{};
  there.sin_family = AF_INET;
  there.sin_port = htons(@PORT@);
  there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (link < 0 || connect(link, reinterpret_cast<sockaddr *>(&there), sizeof there) < 0)
    std::printf("stopped: %s\n", std::strerror(errno));
  else
    std::puts("ESCAPED");
}
