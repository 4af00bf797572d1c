// default: interior pointer
// check: interior pointer
#include "abuse.h"

int main(void) {
  stock_up(100, MANY);
  char *p = malloc(100);
  say(p + 16);
  free_first_half(MANY);
  free(p + 16);
  free_second_half(MANY);
}
