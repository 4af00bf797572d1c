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
    EXPECT(WAIT_UNTIL(is_quiet(tid)));
    long before = switches(tid);
    pause_ms(1000);
    EXPECT(switches(tid) == before);
  }
  return 0;
}
