// Another free in between hides it from the cache; it is seen at the slab.
// default: double free
// check: double free
#include "abuse.h"

int main(void) {
  stock_up(64, MANY);
  void *a = malloc(64), *b = malloc(64);
  say(a);
  free_first_half(MANY);
  free(a);
  free(b);
  free(a);
  free_second_half(MANY);
}
