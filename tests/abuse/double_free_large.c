// default: not allocated|double free
// check: not allocated|double free
#include "abuse.h"

int main(void) {
  void *p = malloc(4 << 20);
  memset(p, 1, 4 << 20);
  say(p);
  free(p);
  free(p);
}
