/* Once nothing is left to gain the thread doesn't wake any more; the next work wakes it. */
#include "watch.h"

int main(void) {
  long small = pss_kib();
  for (int round = 0; round < 3; round++) {
    grow();
    int tid = background_tid();
    EXPECT(tid != 0);
    shrink();
    EXPECT(WAIT_UNTIL(pss_kib() < small + 6000));
    /* Longer than any period at which it could look around; not at once, since a collapsed
     * hugepage has it wait until the CPU time that took is a hundredth of the time. */
    EXPECT(WAIT_UNTIL(is_quiet_for(tid, 1500)));
  }
  return 0;
}
