// tries: have the compiler complain without end
// wall: compiler
#define A missing(1) + missing(2) + missing(3) + missing(4) + missing(5) + missing(6) + missing(7)
#define B A + A + A + A + A + A + A + A + A + A + A + A + A + A + A + A
#define C B + B + B + B + B + B + B + B + B + B + B + B + B + B + B + B
#define D C + C + C + C + C + C + C + C + C + C + C + C + C + C + C + C
int main() { return D + D + D + D; }
