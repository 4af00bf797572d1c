// default: ok
// check: free of a pinned object
#include "abuse.h"
#include "quire.h"

int main(void) {
  int (*pin)(const void *, size_t, enum quire_pin_kind) = symbol("quire_pin");
  char *p = malloc(100), *q = malloc(100);
  if (pin(q + 20, 30, QUIRE_PIN_LONG) != 0) _exit(5);
  free(p);
  say(q);
  free(q);
  return 0;
}
