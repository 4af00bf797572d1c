// default: ok
// check: free of a pinned object
#include "abuse.h"
#include "quire.h"

int main(void) {
  int (*pin)(const void *, size_t, enum quire_pin_kind) = symbol("quire_pin");
  int (*unpin)(const void *, size_t, enum quire_pin_kind) = symbol("quire_unpin");
  char *p = malloc(3 << 20), *q = malloc(3 << 20);
  if (pin(p, 3 << 20, QUIRE_PIN_LONG) != 0 || pin(q + 9000, 30, QUIRE_PIN_LONG) != 0) _exit(5);
  if (unpin(p, 3 << 20, QUIRE_PIN_LONG) != 0) _exit(6);
  free(p);
  say(q);
  free(q);
  return 0;
}
