// default: interior pointer
// check: interior pointer
#include "abuse.h"

int main(void) {
  char *p = malloc(3 << 20);
  say(p + (1 << 20));
  free(p + (1 << 20));
}
