// default: not quire's.*outside of quire's memory
// check: not quire's.*outside of quire's memory
#include <sys/mman.h>

#include "abuse.h"

int main(void) {
  char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  say(p);
  free(p);
}
