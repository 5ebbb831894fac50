// tries: have the compiler make classes without end
// wall: compiler
template <class A, class B>
struct Pair {
  using type = Pair<Pair<A, B>, Pair<B, A>>;
  typename Pair<typename type::type, type>::type next;
};

int main() {
  Pair<int, char> all;
  return sizeof(all);
}
