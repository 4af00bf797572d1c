// A size that thread caches hold, above what slabs serve.
// default: double free
// check: double free|not allocated
#include "abuse.h"

int main(void) {
  void *p = malloc(300000);
  say(p);
  free(p);
  free(p);
}
