// tries: stay behind as a daemon and write later
// wall: processes
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

int main() {
  if (fork() == 0) {
    setsid();
    if (fork() == 0) {
      usleep(500000);
      open("@FOLDER@/r1lite-attack-cpp", O_CREAT | O_WRONLY, 0666);
      sleep(60);
    }
    _exit(0);
  }
  wait(nullptr);
}
