// default: free of a run that is not this owner's
// check: free of a run that is not this owner's
#include "abuse.h"
#include "quire.h"

int main(void) {
  static const struct quire_owner_ops ops;
  struct quire_owner *(*create)(const struct quire_owner_ops *, void *) =
      symbol("quire_owner_create");
  void *(*alloc)(struct quire_owner *, size_t) = symbol("quire_owner_alloc");
  void (*owner_free)(struct quire_owner *, void *) = symbol("quire_owner_free");
  struct quire_owner *a = create(&ops, NULL), *b = create(&ops, NULL);
  char *p = alloc(a, 3);
  say(p);
  owner_free(b, p);
}
