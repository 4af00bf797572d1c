// Freed memory no longer holds what was in it.
// default: later
// check: ok
#include "abuse.h"

int main(void) {
  static const size_t sizes[] = {8, 24, 100, 5000, 65536};
  for (int i = 0; i < 5; i++) {
    unsigned char *p = malloc(sizes[i]);
    memset(p, 0x11, sizes[i]);
    free(p);
    for (size_t k = 0; k < sizes[i]; k++)
      if (p[k] != 0xdf) return 1;
  }
}
