// default: not allocated
// check: not allocated
#include "abuse.h"

int main(void) {
  void *p = malloc(4 << 20);
  say(p);
  free(p);
  return malloc_usable_size(p) == 1;
}
