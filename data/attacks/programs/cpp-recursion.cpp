// tries: overflow the stack
// wall: memory
int fall(volatile int *above) {
  volatile int here[1000];
  here[0] = *above;
  return fall(here) + here[0];
}

int main() {
  volatile int top = 0;
  return fall(&top);
}
