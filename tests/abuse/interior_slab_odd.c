// default: interior pointer
// check: interior pointer
#include "abuse.h"

int main(void) {
  stock_up(3000, MANY);
  char *p = malloc(3000);
  say(p + 1);
  free_first_half(MANY);
  free(p + 1);
  free_second_half(MANY);
}
