// default: free of a pointer that is not allocated
// check: free of a pointer that is not allocated
#include "abuse.h"
#include "quire.h"

int main(void) {
  static const struct quire_owner_ops ops;
  struct quire_owner *(*create)(const struct quire_owner_ops *, void *) =
      symbol("quire_owner_create");
  void *(*alloc)(struct quire_owner *, size_t) = symbol("quire_owner_alloc");
  char *p = alloc(create(&ops, NULL), 3);
  say(p);
  free(p);
}
