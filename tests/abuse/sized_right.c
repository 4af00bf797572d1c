// No abuse: every right size must pass.
// default: ok
// check: ok
#include "abuse.h"

int main(void) {
  void *(*new)(size_t) = symbol("_Znwm");
  void (*delete)(void *, size_t) = symbol("_ZdlPvm");
  void (*free_with_size)(void *, size_t) = symbol("free_sized");
  for (size_t size = 0; size < 3000; size++) delete (new (size), size);
  for (size_t size = 3000; size < 5 << 20; size += 1 + size / 100) {
    delete (new (size), size);
    free_with_size(malloc(size), size);
    free_with_size(calloc(1, size), size);
    free_with_size(realloc(malloc(size / 3 + 1), size), size);
    free_with_size(realloc(malloc(size * 3), size), size);
  }
}
