// tries: make a program larger than the disk
// wall: compiler
struct Block {
  char data[1 << 30] = {1};
};
Block first, second, third;

int main() { return first.data[0] + second.data[1] + third.data[2]; }
