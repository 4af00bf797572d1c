/* The first process of the machine that tests/aarch64-system.sh emulates. Says whether this machine
 * has what the tests are for, runs what lies in /tests and, with quire preloaded, in /preloaded,
 * and switches the machine off. What a program prints stands between two lines "BEGIN name" and
 * "END name status", a wait status; it is SIGALRM's if SECONDS_EACH were over. A variable
 * STEPS_name is that program's QUIRE_STEPS. */
#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/rseq.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

static void give(const char *what, const char *where) {
  if (mount(what, where, what, 0, NULL) != 0) perror(where);
}

/* The kernel keeps the number of the processor there, for those whom it knows. */
static int is_registered(void) {
  const char *thread = __builtin_thread_pointer();
  const volatile struct rseq *area = (const void *)(thread + __rseq_offset);
  long n = sysconf(_SC_NPROCESSORS_ONLN), right = 0;
  cpu_set_t all, one;
  if (__rseq_size == 0 || sched_getaffinity(0, sizeof all, &all) != 0) return 0;
  for (long i = 0; i < n; i++) {
    CPU_ZERO(&one);
    CPU_SET((size_t)i, &one);
    right += sched_setaffinity(0, sizeof one, &one) == 0 && area->cpu_id == (unsigned)i;
  }
  return sched_setaffinity(0, sizeof all, &all) == 0 && right == n;
}

static void say_what_this_is(void) {
  struct utsname name;
  uname(&name);
  printf("BEGIN system\n%s %s %s, rseq area of %u bytes\n", name.sysname, name.release,
         name.machine, __rseq_size);
  if (is_registered())
    printf("PASS rseq is registered\n");
  else
    printf("FAIL rseq is registered: the kernel does not keep the thread's area\n");
  printf("END system 0\n");
}

static void run(const char *directory, const char *name, const char *preload) {
  char path[512], key[64];
  int status = -1;
  printf("BEGIN %s\n", name);
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    setsid();
    dup2(1, 2);
    if (preload != NULL) {
      setenv("LD_PRELOAD", preload, 1);
      setenv("QUIRE_CONF", "background_threshold:1M,decay_ms:100", 1);
    }
    snprintf(key, sizeof key, "STEPS_%.50s", name);
    if (getenv(key) != NULL) setenv("QUIRE_STEPS", getenv(key), 1);
    snprintf(path, sizeof path, "%s/%s", directory, name);
    const char *seconds = getenv("SECONDS_EACH");
    if (seconds != NULL) alarm((unsigned)atoi(seconds));
    execl(path, path, (char *)NULL);
    perror(path);
    _exit(127);
  }
  if (pid > 0) waitpid(pid, &status, 0);
  kill(-1, SIGKILL); /* what it left behind */
  while (waitpid(-1, NULL, 0) > 0) continue;
  if (preload != NULL && status == 0) printf("PASS with quire preloaded\n");
  printf("\nEND %s %d\n", name, status);
  fflush(stdout);
}

static int visible(const struct dirent *entry) { return entry->d_name[0] != '.'; }

static void run_all(const char *directory, const char *preload) {
  struct dirent **found;
  int n = scandir(directory, &found, visible, alphasort);
  for (int i = 0; i < n; i++) run(directory, found[i]->d_name, preload);
}

int main(void) {
  give("proc", "/proc");
  give("sysfs", "/sys");
  give("devtmpfs", "/dev");
  give("tmpfs", "/tmp");
  setenv("PATH", "/bin", 1);
  say_what_this_is();
  run_all("/tests", NULL);
  run_all("/preloaded", "/lib/libquire.so");
  printf("END all 0\n");
  fflush(stdout);
  reboot(RB_POWER_OFF);
  return 1;
}
