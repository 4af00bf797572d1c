// default: realloc of a pointer that is not quire's
// check: realloc of a pointer that is not quire's
#include "abuse.h"

int main(void) {
  char local[64] = {0};
  say(local);
  void *p = realloc(local, 100);
}
