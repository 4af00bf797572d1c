/* Runs a program under a kernel that refuses some system calls:
 *
 *   launcher ERRNO CALL[,CALL...] PROGRAM ARGUMENTS...
 *
 * A seccomp filter makes each of these calls fail with that error: by name, as the table below
 * knows them; of madvise also by advice. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#else
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

/* advice: of madvise's third argument; -1 for the whole call. */
static const struct {
  const char *name;
  int number, advice;
} calls[] = {
    {"madvise", SYS_madvise, -1},
    {"madvise-dontneed", SYS_madvise, 4},
    {"madvise-hugepage", SYS_madvise, 14},
    {"madvise-nohugepage", SYS_madvise, 15},
    {"madvise-populate", SYS_madvise, 23},
    {"madvise-collapse", SYS_madvise, 25},
    {"mremap", SYS_mremap, -1},
    {"mprotect", SYS_mprotect, -1},
    {"munmap", SYS_munmap, -1},
    {"process_vm_readv", SYS_process_vm_readv, -1},
    {"membarrier", SYS_membarrier, -1},
    {"io_uring_setup", SYS_io_uring_setup, -1},
    {"getrusage", SYS_getrusage, -1},
    {"sysinfo", SYS_sysinfo, -1},
    {"prlimit", SYS_prlimit64, -1},
    {"sched_getaffinity", SYS_sched_getaffinity, -1},
    {"getrandom", SYS_getrandom, -1},
    {"rseq", SYS_rseq, -1},
    {"eventfd", SYS_eventfd2, -1},
    {"timerfd", SYS_timerfd_create, -1},
    {"clone3", SYS_clone3, -1},
};

enum { MOST = 256 };

static struct sock_filter code[MOST];
static unsigned short length;

static void add(struct sock_filter instruction) {
  if (length == MOST) exit(125);
  code[length++] = instruction;
}

static void load(size_t offset) {
  add((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offset));
}

/* Goes on behind the next `skip` instructions unless the loaded word is `value`. */
static void unless(unsigned value, unsigned char skip) {
  add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip));
}

static void end(unsigned verdict) { add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, verdict)); }

static void refuse(const char *name, unsigned error) {
  for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
    if (strcmp(calls[i].name, name) != 0) continue;
    load(offsetof(struct seccomp_data, nr));
    unless((unsigned)calls[i].number, calls[i].advice < 0 ? 1 : 3);
    if (calls[i].advice >= 0) {
      load(offsetof(struct seccomp_data, args[2]));
      unless((unsigned)calls[i].advice, 1);
    }
    end(SECCOMP_RET_ERRNO | error);
    return;
  }
  fprintf(stderr, "launcher: no call named %s\n", name);
  exit(125);
}

static unsigned error_named(const char *name) {
  if (strcmp(name, "EPERM") == 0) return EPERM;
  if (strcmp(name, "ENOSYS") == 0) return ENOSYS;
  if (strcmp(name, "EINVAL") == 0) return EINVAL;
  if (strcmp(name, "ENOMEM") == 0) return ENOMEM;
  fprintf(stderr, "launcher: no error named %s\n", name);
  exit(125);
}

int main(int argc, char **argv) {
  if (argc < 4) {
    fprintf(stderr, "launcher ERRNO CALL[,CALL...] PROGRAM ARGUMENTS...\n");
    return 125;
  }
  load(offsetof(struct seccomp_data, arch));
  unless(ARCHITECTURE, 1);
  add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0));
  end(SECCOMP_RET_ALLOW);
  unsigned error = error_named(argv[1]);
  for (char *name = strtok(argv[2], ","); name != NULL; name = strtok(NULL, ","))
    refuse(name, error);
  end(SECCOMP_RET_ALLOW);
  struct sock_fprog program = {length, code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    perror("launcher: seccomp");
    return 126;
  }
  /* The library is for the program, not for this launcher. */
  const char *library = getenv("INJECT_PRELOAD");
  if (library != NULL) setenv("LD_PRELOAD", library, 1);
  execvp(argv[3], argv + 3);
  perror("launcher: exec");
  return 126;
}
