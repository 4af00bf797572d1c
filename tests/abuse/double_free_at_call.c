// default: later
// check: double free
#include "abuse.h"

int main(void) {
  void *a = malloc(64), *b = malloc(64), *c = malloc(64);
  say(a);
  free(a);
  free(b);
  free(c);
  free(a);
}
