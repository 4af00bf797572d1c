// default: realloc of an interior pointer
// check: realloc of an interior pointer
#include "abuse.h"

int main(void) {
  char *p = malloc(1000);
  say(p + 32);
  p = realloc(p + 32, 2000);
}
