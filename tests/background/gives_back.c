/* Grows, frees, idles: memory goes back. With "large", by single frees while the thread is asleep.
 */
#include "watch.h"

int main(int argc, char **argv) {
  long small = pss_kib();
  bool large = argc > 1 && strcmp(argv[1], "large") == 0;
  grow();
  int tid = 0; /* looked for now: that allocates, which is work for the thread */
  EXPECT(WAIT_UNTIL((tid = background_tid()) != 0));
  long full = pss_kib();
  EXPECT(full > small + OBJECTS * (OBJECT_SIZE / 1024.0) * 0.9);
  if (large) {
    enum { BLOCKS = 3, BLOCK = 32 << 20 };
    char *blocks[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) memset(blocks[i] = malloc(BLOCK), 1, BLOCK);
    for (int i = 0; i < BLOCKS; i++) {
      long before = pss_kib();
      EXPECT(WAIT_UNTIL(is_quiet(tid)));
      free(blocks[i]);
      EXPECT(WAIT_UNTIL(pss_kib() < before - BLOCK / 1024 + 4000));
    }
    return 0;
  }
  shrink();
  EXPECT(WAIT_UNTIL(pss_kib() < small + 6000));
  return 0;
}
