/* Sandboxes itself, all threads it has, with a filter that kills for the calls that a background
 * thread adds. Before its heap grows: no thread is started. With "running", while the thread
 * sleeps: it goes on without them. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#include "watch.h"

static bool sandbox(void) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 425, 6, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 426, 5, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 436, 4, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 440, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
  };
  struct sock_fprog program = {sizeof code / sizeof code[0], code};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

int main(int argc, char **argv) {
  long small = pss_kib();
  bool running = argc > 1 && strcmp(argv[1], "running") == 0;
  if (running) {
    grow();
    shrink();
    EXPECT(WAIT_UNTIL(is_quiet(background_tid())));
  }
  EXPECT(sandbox());
  for (int i = 0; i < 3; i++) {
    grow();
    EXPECT(count_threads() == (running ? 2 : 1));
    shrink();
  }
  EXPECT(!running || WAIT_UNTIL(pss_kib() < small + 6000));
  EXPECT(count_threads() == (running ? 2 : 1));
  return 0;
}
