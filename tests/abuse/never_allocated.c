// In quire's memory, but never handed out.
// default: not allocated.*never used
// check: not allocated.*never used
#include "abuse.h"

int main(void) {
  char *p = malloc(100);
  p += (size_t)256 << 20;
  say(p);
  free(p);
}
