// default: wrong size.* 4096
// check: wrong size.* 4096
#include "abuse.h"

int main(void) {
  void (*free_with_size)(void *, size_t) = symbol("quire_free_sized");
  void *p = malloc(100);
  say(p);
  free_with_size(p, 4096);
}
