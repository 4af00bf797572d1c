// default: wrong size.* 500
// check: wrong size.* 500
#include "abuse.h"

int main(void) {
  void *(*new)(size_t) = symbol("_Znwm");
  void (*delete)(void *, size_t) = symbol("_ZdlPvm");
  void *p = new (40);
  say(p);
  delete (p, 500);
}
