/* Forks again and again while the thread works; each child grows, gets its own thread, and gives
 * back. */
#include <sys/wait.h>

#include "watch.h"

static void child(void) {
  shrink();
  grow();
  EXPECT(WAIT_UNTIL(background_tid() != 0));
  EXPECT(count_threads() == 2);
  shrink();
  EXPECT(WAIT_UNTIL(pss_kib() < 12000));
  _exit(0);
}

int main(void) {
  int status;
  for (int round = 0; round < 10; round++) {
    grow();
    EXPECT(WAIT_UNTIL(background_tid() != 0));
    pid_t pid = fork();
    EXPECT(pid >= 0);
    if (pid == 0) child();
    shrink();
    EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
  }
  EXPECT(WAIT_UNTIL(background_tid() != 0));
  EXPECT(WAIT_UNTIL(pss_kib() < 12000));
  return 0;
}
