// default: not quire's.*outside of quire's memory
// check: not quire's.*outside of quire's memory
#include "abuse.h"

int main(void) {
  say((void *)0x4141414141414140);
  free((void *)0x4141414141414140);
}
