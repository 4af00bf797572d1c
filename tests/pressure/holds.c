/* Grows and frees: by its options the memory stays for an hour. It says so ("held"), and ends well
 * when the memory has gone back all the same, twice. */
#include "../background/watch.h"

/* Stalls from before may still have the kernel tell of pressure once, hence a few tries. */
static bool holds(long small) {
  enum { TRIES = 10 };
  for (int i = 0; i < TRIES; i++) {
    grow();
    int tid = 0;
    EXPECT(WAIT_UNTIL((tid = background_tid()) != 0));
    shrink();
    EXPECT(WAIT_UNTIL(is_quiet(tid)));
    if (pss_kib() > small + OBJECTS * (OBJECT_SIZE / 1024.0) * 0.7) return true;
  }
  return false;
}

int main(void) {
  long small = pss_kib();
  EXPECT(holds(small));
  printf("held\n");
  fflush(stdout);
  EXPECT(WAIT_UNTIL(pss_kib() < small + 6000));
  grow();
  shrink();
  EXPECT(WAIT_UNTIL(pss_kib() < small + 6000));
  return 0;
}
