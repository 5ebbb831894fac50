// tries: never come to main
// wall: time
struct Early {
  Early() {
    for (volatile long i = 0;; ++i) {
    }
  }
} early;

int main() { return 0; }
