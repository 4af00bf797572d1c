// default: not quire's.*outside of quire's memory
// check: not quire's.*outside of quire's memory
#include "abuse.h"

int main(void) {
  char local[64];
  char *p = (char *)(((size_t)local + 15) & ~(size_t)15);
  memset(local, 0, sizeof local);
  say(p);
  free(p);
}
