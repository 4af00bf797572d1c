// default: later
// check: segv
#include "abuse.h"

int main(void) {
  char *p = aligned_alloc(1 << 16, 3 << 20);
  memset(p, 1, malloc_usable_size(p));
  *(volatile char *)(p + malloc_usable_size(p) + 100) = 1;
}
