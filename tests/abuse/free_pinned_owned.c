// default: ok
// check: free of a pinned run
#include "abuse.h"
#include "quire.h"

int main(void) {
  static const struct quire_owner_ops ops;
  struct quire_owner *(*create)(const struct quire_owner_ops *, void *) =
      symbol("quire_owner_create");
  void *(*alloc)(struct quire_owner *, size_t) = symbol("quire_owner_alloc");
  void (*owner_free)(struct quire_owner *, void *) = symbol("quire_owner_free");
  int (*pin)(const void *, size_t, enum quire_pin_kind) = symbol("quire_pin");
  struct quire_owner *a = create(&ops, NULL);
  char *p = alloc(a, 3);
  if (pin(p + 5000, 10, QUIRE_PIN_TRANSIENT) != 0) _exit(5);
  say(p);
  owner_free(a, p);
  return 0;
}
