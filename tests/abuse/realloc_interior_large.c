// default: realloc of an interior pointer
// check: realloc of an interior pointer
#include "abuse.h"

int main(void) {
  char *p = malloc(1 << 22);
  say(p + 4096);
  p = realloc(p + 4096, 1 << 23);
}
