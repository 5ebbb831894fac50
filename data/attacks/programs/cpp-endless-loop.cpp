// tries: never end
// wall: time
int main() {
  for (volatile long i = 0;; ++i) {
  }
}
