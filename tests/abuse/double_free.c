// default: double free
// check: double free
#include "abuse.h"

int main(void) {
  void *p = malloc(64);
  say(p);
  free(p);
  free(p);
}
