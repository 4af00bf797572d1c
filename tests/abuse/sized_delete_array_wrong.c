// default: wrong size
// check: wrong size
#include "abuse.h"

int main(void) {
  void *(*new)(size_t) = symbol("_Znam");
  void (*delete)(void *, size_t) = symbol("_ZdaPvm");
  void *p = new (1 << 21);
  say(p);
  delete (p, 100);
}
