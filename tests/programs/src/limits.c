// A program that lives under limits, set by the script that starts it or by itself (the argument
// says which): it must work within them, and get NULL and ENOMEM beyond.
#include <errno.h>
#include <grp.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"

static void *churn(void *seed) { return expect_churn(20000, (uintptr_t)seed) ? NULL : seed; }

static int work(void) {
  pthread_t threads[3];
  for (size_t i = 0; i < 3; i++) {
    if (pthread_create(&threads[i], NULL, churn, (void *)(i + 1))) return 0;
  }
  int good = 1;
  for (size_t i = 0; i < 3; i++) {
    void *result;
    good &= !pthread_join(threads[i], &result) && !result;
  }
  return good && expect_churn(20000, 4);
}

// Allocates until there is no more: NULL and ENOMEM, and everything works again once it is freed.
static int work_to_the_end(size_t size) {
  struct link {
    struct link *next;
  } *all = NULL, *one;
  size_t count = 0;
  errno = 0;
  while (count < 700000 && (one = malloc(size))) {
    memset(one, 0x55, size);
    one->next = all;
    all = one;
    count++;
  }
  int refused = count < 700000 && errno == ENOMEM;
  while (all) {
    one = all;
    all = one->next;
    free(one);
  }
  printf("%zu blocks of %zu bytes before the end\n", count, size);
  return refused && count > 0;
}

static int set(int resource, rlim_t value) {
  struct rlimit limit = {value, value};
  return setrlimit(resource, &limit) == 0;
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  // The line buffers of stdio are allocated before the limit bites.
  setvbuf(stdout, NULL, _IONBF, 0);
  if (!strcmp(what, "plain")) {
    expect("works", work());
  } else if (!strcmp(what, "as") || !strcmp(what, "data")) {
    // RLIMIT_AS or RLIMIT_DATA was set before the program was started.
    expect("works", work());
    expect("the end is NULL and ENOMEM, small", work_to_the_end(4000));
    expect("the end is NULL and ENOMEM, large", work_to_the_end(3000000));
    expect("works afterwards", work());
  } else if (!strcmp(what, "late-data")) {
    expect("before", work());
    if (!set(RLIMIT_DATA, 300u << 20)) return 2;
    expect("the end is NULL and ENOMEM, small", work_to_the_end(4000));
    expect("works afterwards", work());
  } else if (!strcmp(what, "mlockall")) {
    if (mlockall(MCL_CURRENT | MCL_FUTURE)) {
      printf("SKIP mlockall: %s\n", strerror(errno));
      return 0;
    }
    expect("works with all memory locked", work());
  } else if (!strcmp(what, "memlock")) {
    // Nothing may be locked: a capability to do so anyway would hide what happens to others.
    if (!set(RLIMIT_MEMLOCK, 0)) return 2;
    if (getuid() == 0 && setuid(65534)) return 2;
    expect("works with nothing lockable", work());
  } else if (!strcmp(what, "fsize")) {
    if (!set(RLIMIT_FSIZE, 0)) return 2;
    expect("works with RLIMIT_FSIZE 0", work());
  } else if (!strcmp(what, "nofile")) {
    if (!set(RLIMIT_NOFILE, 3)) return 2;
    expect("works without descriptors", work());
  } else if (!strcmp(what, "nproc")) {
    if (getuid() == 0 && (setgroups(0, NULL) || setuid(65533))) return 2;
    if (!set(RLIMIT_NPROC, 0)) return 2;
    expect("works when no thread can be started", expect_churn(50000, 4));
  } else if (!strcmp(what, "chroot")) {
    if (!work() || chroot(argv[2]) || chdir("/") || setgroups(0, NULL) || setgid(65534) ||
        setuid(65534)) {
      printf("SKIP chroot: %s\n", strerror(errno));
      return 0;
    }
    expect("works after chroot and setuid", work());
    pid_t pid = fork();
    if (pid == 0) _exit(work() ? 0 : 1);
    int status = -1;
    waitpid(pid, &status, 0);
    expect("works in a child there", WIFEXITED(status) && WEXITSTATUS(status) == 0);
  } else if (!strcmp(what, "seccomp")) {
    // Strict mode kills for any call but read, write and exit: a heap that has what it needs makes
    // none.
    free(malloc(100));
    pid_t pid = fork();
    if (pid == 0) {
      free(malloc(100));
      if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)) syscall(SYS_exit, 77);
      for (int i = 0; i < 10000; i++) free(malloc(100));
      syscall(SYS_exit, 0);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
      printf("SKIP seccomp: refused\n");
    else
      expect("no system call where the cache does", WIFEXITED(status) && !WEXITSTATUS(status));
  } else {
    return 2;
  }
  return expect_failures != 0;
}
