// tries: have the compiler run a loop without end
// wall: compiler
constexpr unsigned long spin(unsigned long n) {
  unsigned long x = 1;
  for (unsigned long i = 0; i < n; ++i) x = x * 3 + i;
  return x;
}

int main() {
  constexpr unsigned long a = spin(1UL << 40);
  return a;
}
