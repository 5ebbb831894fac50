// tries: have the compiler use up all memory
// wall: compiler
template <int N, class T>
struct Tower {
  static constexpr long value = Tower<N - 1, Tower<N, T>>::value + Tower<N - 1, Tower<N + 1, T>>::value;
};
template <class T>
struct Tower<0, T> {
  static constexpr long value = sizeof(T);
};

int main() { return Tower<40, int>::value; }
