/* About the smallest program that uses malloc at all: what is its peak memory? */
#include <stdlib.h>
#include <string.h>

int main(void) {
  void *blocks[200];

  for (size_t i = 0; i < 200; i++) {
    size_t size = 16 + i * 5;

    blocks[i] = malloc(size);
    if (blocks[i] == NULL) return 1;
    memset(blocks[i], 1, size);
  }
  for (size_t i = 0; i < 200; i++) free(blocks[i]);
  return 0;
}
