// default: double free
// check: double free
#include "abuse.h"

int main(void) {
  void *(*new)(size_t) = symbol("_Znwm");
  void (*delete)(void *) = symbol("_ZdlPv");
  void *p = new (40);
  say(p);
  delete (p);
  delete (p);
}
