// The first byte behind a large block is a guard's.
// default: later
// check: segv
#include "abuse.h"

int main(void) {
  char *p = malloc(200000);
  memset(p, 1, malloc_usable_size(p));
  *(volatile char *)(p + malloc_usable_size(p)) = 1;
}
