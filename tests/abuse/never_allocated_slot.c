// A slot that is still free.
// default: later
// check: double free
#include "abuse.h"

int main(void) {
  char *p = malloc(5000);
  size_t size = malloc_usable_size(p);
  say(p + 3 * size);
  free(p + 3 * size);
}
