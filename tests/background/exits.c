/* Exits while the thread is at work. The argument is the status. */
#include "watch.h"

int main(int argc, char **argv) {
  grow();
  shrink();
  grow();
  printf("last line\n");
  return argc > 1 ? atoi(argv[1]) : 0;
}
