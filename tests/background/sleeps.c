/* Once nothing is left to gain the thread doesn't wake any more; the next work wakes it. */
#include "watch.h"

/* So many live that a pass has something to do. */
static void thin_out(void) {
  for (int i = 0; i < OBJECTS; i++)
    if (i % 10 != 0) free(objects[i]);
}

int main(void) {
  long small = pss_kib();
  for (int round = 0; round < 3; round++) {
    grow();
    int tid = 0;
    EXPECT(WAIT_UNTIL((tid = background_tid()) != 0));
    shrink();
    EXPECT(WAIT_UNTIL(pss_kib() < small + 6000));
    /* Longer than any period at which it could look around; not at once, since a collapsed
     * hugepage has it wait until the CPU time that took is a hundredth of the time. */
    EXPECT(WAIT_UNTIL(is_quiet_for(tid, 1500)));
  }
  /* The same with a heap that holds more than what lives in it, once it has been compacted. */
  grow();
  int tid = 0;
  EXPECT(WAIT_UNTIL((tid = background_tid()) != 0));
  thin_out();
  EXPECT(WAIT_UNTIL(is_quiet_for(tid, 1500)));
  return 0;
}
