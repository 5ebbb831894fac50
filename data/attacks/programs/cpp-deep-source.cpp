// tries: overflow the parser of the compiler
// wall: compiler
#define A ((((((((((((((((
#define B ))))))))))))))))
#define C A A A A A A A A A A A A A A A A
#define D B B B B B B B B B B B B B B B B
#define E C C C C C C C C C C C C C C C C
#define F D D D D D D D D D D D D D D D D
int main() { return E E E E 1 F F F F; }
