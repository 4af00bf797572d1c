/* refuse ERRNO CALLS COMMAND...: runs a command under a seccomp filter, as a container does. CALLS
 * is "ring" (io_uring) or "all" (that, and a descriptor table of one's own). */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CLOSE_RANGE = 436 };

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  unsigned number = strcmp(argv[1], "EPERM") == 0 ? EPERM : ENOSYS;
  unsigned also = strcmp(argv[2], "all") == 0 ? CLOSE_RANGE : 425;
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 425, 4, 0), /* io_uring_setup, _enter, _register */
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 426, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 427, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, also, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | number),
  };
  struct sock_fprog program = {sizeof code / sizeof code[0], code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return 3;
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) return 3;
  execvp(argv[3], argv + 3);
  return 127;
}
