// default: not quire's.*outside of quire's memory
// check: not quire's.*outside of quire's memory
#include "abuse.h"

static char object[64] __attribute__((aligned(16)));

int main(void) {
  say(object + 16);
  free(object + 16);
}
