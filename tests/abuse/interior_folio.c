// default: interior pointer
// check: interior pointer
#include "abuse.h"

int main(void) {
  stock_up(300000, 40);
  char *p = malloc(300000);
  say(p + 8192);
  free_first_half(40);
  free(p + 8192);
  free_second_half(40);
}
