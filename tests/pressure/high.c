/* For a machine with control groups of version 2, of which it is the only user: memory.high.
 *
 *   high            makes groups, and in each of them runs, with quire preloaded, what is below
 *   high NAME KIND  holds memory that by its options would stay for an hour, has another process of
 *                   its group grow until the kernel counts that as `high`, and looks whether the
 *                   memory goes ("answers") or stays ("leaves")
 *
 * What is held is of two kinds: frames that are free, which a purge gives back, and a sparse part,
 * for a pass of compaction, with less slack than one begins for of its own accord. Before Linux
 * 6.12 a pass only discards frames in which nothing lives; it doesn't mesh.
 *
 * With MEASURE in the environment it does nothing of this but runs /bin/pressure (bench/pressure.c)
 * in such a group, with MEASURE as its arguments, which commas part, and MEASURE_CONF as quire's
 * options. */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "../background/watch.h"
#include "quire.h"

#pragma weak quire_stats

#define MOUNT "/sys/fs/cgroup"
#define CONF "background_threshold:1M,decay_ms:3600000"

enum {
  LIMIT_MIB = 96, /* memory.high: what is held, and as much again */
  SPARSE = 6000,  /* of OBJECTS: one in KEPT of these stays, and none of the others */
  KEPT = 8,
  BACK_KIB = 20000, /* so much of 35 MiB is to go, or to stay */
  LOOK_MS = 3000,   /* for what is to stay; what goes is gone within a fraction of it */
  STEP = 64 << 10,  /* by which the other process grows */
  WORDS_MOST = 32,
};

static int failures;

static void verdict(const char *name, const char *what, bool ok, const char *more) {
  failures += !ok;
  if (ok)
    printf("PASS %s: %s\n", name, what);
  else
    printf("FAIL %s: %s: %s\n", name, what, more);
  fflush(stdout);
}

/* ---- in the group, preloaded ---- */

static struct quire_stats stats(void) {
  struct quire_stats s = {0};
  (void)quire_stats(&s);
  return s;
}

static long count_high(void) {
  static char path[256], text[512];
  if (path[0] == 0) {
    char group[128], *at;
    if (slurp("/proc/self/cgroup", group, sizeof group) < 0) return -1;
    if ((at = strstr(group, "0::/")) == NULL) return -1;
    at[strcspn(at, "\n")] = 0;
    snprintf(path, sizeof path, "%s%s/memory.events", MOUNT, at + 3);
  }
  return slurp(path, text, sizeof text) < 0 ? -1 : number_after(text, "high ");
}

/* Nothing of the heap is in it: it is started before there is one. It grows at a word, until the
 * kernel counts, and keeps what it has. */
static int orders[2];

static void grow_at_a_word(void) {
  enum { MOST = 2 * LIMIT_MIB };
  char word;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (read(orders[0], &word, 1) != 1) _exit(0);
  long before = count_high();
  for (long done = 0; done < MOST << 20 && count_high() == before; done += STEP) {
    void *p = mmap(NULL, STEP, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) _exit(1);
    memset(p, 1, STEP);
  }
  for (;;) pause();
}

static bool stays(int i) { return i < SPARSE && i % KEPT == 0; }

static void thin_out(void) {
  for (int i = 0; i < OBJECTS; i++)
    if (!stays(i)) free(objects[i]);
}

static bool intact(void) {
  for (int i = 0; i < OBJECTS; i++)
    for (int k = 0; stays(i) && k < OBJECT_SIZE; k++)
      if (((char *)objects[i])[k] != (char)i) return false;
  return true;
}

/* Whether a thread's descriptors, which are its own, have an io_uring among them. */
static bool has_ring(int tid) {
  char path[64], what[64];
  for (int fd = 0; fd < 64; fd++) {
    snprintf(path, sizeof path, "/proc/self/task/%d/fd/%d", tid, fd);
    ssize_t n = readlink(path, what, sizeof what - 1);
    if (n > 0 && strncmp(what, "anon_inode:[io_uring]", (size_t)n) == 0) return true;
  }
  return false;
}

static bool kernel_is(int major, int minor) {
  struct utsname name;
  int has_major = 0, has_minor = 0;
  uname(&name);
  sscanf(name.release, "%d.%d", &has_major, &has_minor);
  return has_major > major || (has_major == major && has_minor >= minor);
}

static void look_for_ring(const char *name, int tid) {
  char refused[16];
  if (has_ring(tid))
    printf("PASS %s: the thread waits by a ring\n", name);
  else if (!kernel_is(6, 7))
    printf("SKIP %s: an io_uring can't wait for a futex before Linux 6.7: polled instead\n", name);
  else if (slurp("/proc/sys/kernel/io_uring_disabled", refused, sizeof refused) < 0 ||
           refused[0] != '0')
    printf("SKIP %s: this kernel permits no io_uring: polled instead\n", name);
  else
    verdict(name, "the thread waits by a ring", false, "it has none");
}

static double now(void) { /* milliseconds */
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Without a pause: the moment is what counts from. */
static bool rises(long before) {
  long deadline = now_ms() + DEADLINE_MS;
  while (count_high() <= before && now_ms() < deadline) continue;
  return count_high() > before;
}

struct took {
  double back, pass; /* from the event until memory goes back, and until a pass is over; below 0:
                        that has not come */
};

/* With pauses: what looks without one has the locks that the pass needs, and holds it up by seconds
 * on an emulated machine. */
static struct took look_on(const struct quire_stats *before) {
  struct took took = {-1, -1};
  double told = now();
  long deadline = now_ms() + DEADLINE_MS;
  while (took.pass < 0 && now_ms() < deadline) {
    struct quire_stats s = stats();
    double since = now() - told;
    if (took.back < 0 && s.discards != before->discards) took.back = since;
    if (s.compactions != before->compactions) took.pass = since;
    pause_ms(1);
  }
  return took;
}

static void expect_answer(const char *name, const struct quire_stats *before, long held) {
  char more[128];
  struct took took = look_on(before);
  struct quire_stats s = stats();
  verdict(name, "a pass is run",
          took.pass >= 0 && s.hollowed + s.meshed > before->hollowed + before->meshed,
          took.pass < 0 ? "none within a minute" : "it has gained nothing");
  long left = pss_kib();
  bool gone = took.pass >= 0 && WAIT_UNTIL((left = pss_kib()) < held - BACK_KIB);
  snprintf(more, sizeof more, "%ld KiB of %ld are left, %llu free frames", left, held,
           (unsigned long long)stats().frames_dirty);
  verdict(name, "memory is given back", gone, more);
  if (!gone) return;
  printf("%s: from the event %.0f ms until memory goes back, %.0f ms to the end of the pass; "
         "%ld KiB of %ld left, %llu frames discarded, %llu meshed\n",
         name, took.back, took.pass, left, held, (unsigned long long)s.hollowed,
         (unsigned long long)s.meshed);
}

static void expect_nothing(const char *name, const struct quire_stats *before, long held) {
  char more[64];
  long left = held;
  long deadline = now_ms() + LOOK_MS;
  while ((left = pss_kib()) > held - BACK_KIB && now_ms() < deadline) pause_ms(POLL_MS);
  snprintf(more, sizeof more, "%ld KiB of %ld are left", left, held);
  verdict(name, "nobody hears of it", left > held - BACK_KIB, more);
  verdict(name, "and no pass is run", stats().compactions == before->compactions, "one was");
}

static int hold(const char *name, bool answers) {
  if (quire_stats == NULL || pipe(orders) != 0) return 1;
  pid_t other = fork();
  if (other < 0) return 1;
  if (other == 0) grow_at_a_word();
  long small = pss_kib();
  grow();
  int tid = 0;
  if (answers) EXPECT(WAIT_UNTIL((tid = background_tid()) != 0));
  thin_out();
  if (answers) EXPECT(WAIT_UNTIL(is_quiet(tid)));
  if (strcmp(name, "io_uring permitted") == 0) look_for_ring(name, tid);
  struct quire_stats before = stats();
  long held = pss_kib(), counted = count_high();
  EXPECT(held > small + BACK_KIB + BACK_KIB / 4);
  EXPECT(counted == 0);
  EXPECT(write(orders[1], "g", 1) == 1);
  bool told = rises(counted);
  verdict(name, "the kernel counts", told, "nothing within a minute");
  if (told && answers) expect_answer(name, &before, held);
  if (told && !answers) expect_nothing(name, &before, held);
  verdict(name, "objects are as they were", intact(), "they are not");
  kill(other, SIGKILL);
  waitpid(other, NULL, 0);
  return 0;
}

/* ---- outside ---- */

static bool put(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
  if (!ok) fprintf(stderr, "%s: %s\n", path, strerror(errno));
  if (fd >= 0) close(fd);
  return ok;
}

/* A new group. The process that is to be in it moves itself there before it becomes the program:
 * the thread opens the files of the group that it begins in. */
static bool make_group(const char *group) {
  char path[128], limit[32];
  if (mkdir(group, 0755) != 0) return false;
  snprintf(path, sizeof path, "%s/memory.high", group);
  snprintf(limit, sizeof limit, "%d", LIMIT_MIB << 20);
  return put(path, limit);
}

static bool run_in(const char *group, const char *conf, char **argv) {
  char path[128];
  int status = -1;
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    snprintf(path, sizeof path, "%s/cgroup.procs", group);
    if (!put(path, "0")) _exit(1);
    setenv("LD_PRELOAD", "/lib/libquire.so", 1);
    setenv("QUIRE_CONF", conf, 1);
    execv(argv[0], argv);
    perror(argv[0]);
    _exit(127);
  }
  if (pid > 0) waitpid(pid, &status, 0);
  rmdir(group);
  return status == 0;
}

static int measure(char *words) {
  const char *conf = getenv("MEASURE_CONF");
  char *argv[WORDS_MOST] = {"/bin/pressure", "-e", MOUNT "/measured/memory.events"};
  int n = 3;
  for (char *word = strtok(words, ","); word != NULL && n < WORDS_MOST - 1;
       word = strtok(NULL, ","))
    argv[n++] = word;
  if (!make_group(MOUNT "/measured")) return 1;
  return !run_in(MOUNT "/measured", conf == NULL ? CONF : conf, argv);
}

int main(int argc, char **argv) {
  if (argc == 3) return hold(argv[1], strcmp(argv[2], "answers") == 0);
  if (mount("cgroup2", MOUNT, "cgroup2", 0, NULL) != 0 ||
      !put(MOUNT "/cgroup.subtree_control", "+memory")) {
    printf("SKIP memory.high: this kernel has no memory controller of version 2\n");
    return 0;
  }
  if (getenv("MEASURE") != NULL) return measure(getenv("MEASURE"));
  /* Else what is answered could be stalls. */
  verdict("memory.high", "is all that tells", access("/proc/pressure/memory", F_OK) != 0,
          "the kernel counts stalls, too: it is to be started with psi=0");
  static const struct {
    const char *name, *kind, *refused, *conf;
  } cases[] = {
      {"io_uring permitted", "answers", NULL, CONF},
      {"io_uring refused", "answers", "ring", CONF},
      {"without descriptors of the thread's own", "leaves", "all", CONF},
      {"background:off", "leaves", NULL, CONF ",background:off"},
  };
  for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char group[64], *words[8];
    int n = 0;
    snprintf(group, sizeof group, "%s/high-%u", MOUNT, i);
    if (cases[i].refused != NULL) {
      words[n++] = "/bin/refuse";
      words[n++] = "EPERM";
      words[n++] = (char *)cases[i].refused;
    }
    words[n++] = argv[0];
    words[n++] = (char *)cases[i].name;
    words[n++] = (char *)cases[i].kind;
    words[n] = NULL;
    if (!make_group(group))
      verdict(cases[i].name, "a group", false, "can't be made");
    else if (!run_in(group, cases[i].conf, words))
      verdict(cases[i].name, "ends well", false, "what it said is in console.log");
  }
  return failures != 0;
}
