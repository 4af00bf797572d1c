// default: not quire's.*outside of quire's memory
// check: not quire's.*outside of quire's memory
#include "abuse.h"

int main(void) {
  say((void *)16);
  free((void *)16);
}
