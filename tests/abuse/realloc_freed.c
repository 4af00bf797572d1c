// default: realloc of a freed pointer
// check: realloc of a freed pointer
#include "abuse.h"

int main(void) {
  void *p = malloc(64);
  say(p);
  free(p);
  p = realloc(p, 128);
}
