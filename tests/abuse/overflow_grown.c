// The guard follows a block that realloc made larger.
// default: later
// check: segv
#include "abuse.h"

int main(void) {
  char *p = malloc(100000);
  p = realloc(p, 1000000);
  memset(p, 1, malloc_usable_size(p));
  *(volatile char *)(p + malloc_usable_size(p)) = 1;
}
