// default: realloc of a (freed pointer|pointer that is not allocated)
// check: realloc of a (freed pointer|pointer that is not allocated)
#include "abuse.h"

int main(void) {
  void *p = malloc(4 << 20);
  say(p);
  free(p);
  p = realloc(p, 8 << 20);
}
