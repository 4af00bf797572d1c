/*
 * How soon is memory given back once the kernel says that it is short? And how often does the
 * background thread wake up when there is nothing to gain?
 *
 * A sparse heap is built and left alone until nothing changes any more. For so many seconds the
 * background thread's wake-ups are counted (not at all with -s 0). Then, time after time, another
 * process in the same control group reads a file that does not fit into what the group may have,
 * until the kernel tells of it; from that moment on this one looks again and again for the end of a
 * pass of compaction, which is later than its beginning.
 *
 * usage: pressure [-m MiB] [-n TIMES] [-s SECONDS] [-e EVENTS] [FILE]
 *
 *   -e  memory.events of the group: the moment is when its count of `high` has risen; else when the
 *       background thread is woken, which the kernel does when it has counted enough stalls
 *
 * Without FILE, where there is no disk, the other process grows instead, until the kernel has
 * counted; that needs -e. There the kernel may be one whose rings can't wait for a futex, so that
 * the thread polls while it has something to give back later, and is deaf when it has nothing: each
 * time it is given something, which by quire's options (decay_ms) must stay for longer than this
 * takes.
 *
 * Prints JSON; times are in nanoseconds. "pass": a pass was over; -1 where none came within ten
 * seconds. Other allocators have none of this.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "memory.h"
#include "quire.h"
#include "sparse_heap.h"

enum {
  TIMES_MOST = 100,
  QUIET_NS = 1500000000, /* without a pass: it has nothing to gain */
  GIVE_UP_S = 10,        /* after the kernel told */
  WAIT_S = 60,           /* for the kernel to tell */
  POLLS = 2,             /* in that time: a thread that polls does so once a second */
  LOOK_NS = 100000,      /* between looks for the end of a pass */
  PERCENT = 90,
  WASTE = 8 << 20, /* bytes to give back later */
  STEP = 64 << 10, /* by which the other process grows */
};

static int (*stats)(struct quire_stats *);

static void fail(const char *what) {
  fprintf(stderr, "pressure: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void pause_ns(uint64_t ns) {
  struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};

  while (nanosleep(&t, &t) != 0 && errno == EINTR) continue;
}

static struct quire_stats stats_now(void) {
  struct quire_stats now;

  if (stats(&now) != 0) fail("quire_stats");
  return now;
}

/* ---- memory.events ---- */

static int open_events(const char *path) {
  int file = open(path, O_RDONLY | O_CLOEXEC);

  if (file < 0) fail(path);
  return file;
}

static uint64_t count_high(int events) {
  char text[512], *at;
  ssize_t n = pread(events, text, sizeof text - 1, 0);

  if (n <= 0) fail("memory.events");
  text[n] = 0;
  at = strstr(text, "high ");
  if (at == NULL) fail("memory.events has no high");
  return strtoull(at + 5, NULL, 10);
}

/* ---- the process that needs memory ---- */

/* Reads the file in an order that no read-ahead guesses, until it is killed. */
static void read_always(const char *path) {
  static char page[4096];
  int file = open(path, O_RDONLY | O_CLOEXEC);

  if (file < 0) _exit(1);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  off_t size = lseek(file, 0, SEEK_END);
  posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
  posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM);
  for (uint64_t r = 1;;) {
    r = r * 6364136223846793005u + 1442695040888963407u;
    if (pread(file, page, sizeof page, (off_t)((r >> 33) * 4096 % (uint64_t)size)) < 0) _exit(1);
  }
}

/* Keeps what it has until it is killed: one event each time. */
static void grow_until_told(const char *events_path) {
  int events = open_events(events_path);
  uint64_t before = count_high(events);

  prctl(PR_SET_PDEATHSIG, SIGKILL);
  while (count_high(events) == before) {
    void *p = mmap(NULL, STEP, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) _exit(1);
    memset(p, 1, STEP);
  }
  for (;;) pause();
}

/* It must have nothing of this heap: started before there is one, and it starts those who need
 * memory. */
static int orders[2];

static void run_helper(const char *path, const char *events_path) {
  char order;
  pid_t reader = 0;

  prctl(PR_SET_PDEATHSIG, SIGKILL);
  close(orders[1]);
  while (read(orders[0], &order, 1) == 1) {
    if (order == 'r' && (reader = fork()) == 0) {
      if (path != NULL) read_always(path);
      grow_until_told(events_path);
    }
    if (order == 's' && reader > 0) {
      kill(reader, SIGKILL);
      waitpid(reader, NULL, 0);
    }
  }
  _exit(0);
}

static void order(char what) {
  if (write(orders[1], &what, 1) != 1) fail("pipe");
}

/* ---- the background thread ---- */

/* A small file of one of its own threads, without allocating: a heap that is watched must not
 * change.
 */
static bool read_task(const char *tid, const char *name, char text[4096]) {
  char path[64];

  snprintf(path, sizeof path, "/proc/self/task/%.16s/%s", tid, name);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  ssize_t n = read(file, text, 4095);
  close(file);
  text[n > 0 ? n : 0] = 0;
  return n > 0;
}

static char background[16]; /* the thread's number */

static bool find_background(void) {
  char text[4096];
  DIR *tasks = opendir("/proc/self/task");

  for (struct dirent *entry; tasks != NULL && (entry = readdir(tasks)) != NULL;)
    if (read_task(entry->d_name, "comm", text) && strcmp(text, "quire\n") == 0)
      snprintf(background, sizeof background, "%.15s", entry->d_name);
  if (tasks != NULL) closedir(tasks);
  return background[0] != 0;
}

static long wakeups(void) {
  char text[4096], *at;

  if (!read_task(background, "status", text)) fail("status");
  at = strstr(text, "\nvoluntary_ctxt_switches:");
  if (at == NULL) fail("status has no switches");
  return strtol(at + strlen("\nvoluntary_ctxt_switches:"), NULL, 10);
}

/* How often it was given a processor. */
static uint64_t times_run(void) {
  char text[4096];
  uint64_t run;

  if (!read_task(background, "schedstat", text)) fail("schedstat");
  if (sscanf(text, "%*u %*u %" SCNu64, &run) != 1) fail("schedstat has no count");
  return run;
}

/* No pass is under way, and none has been for a while; the thread was not woken meanwhile, but for
 * the looks of one that polls. */
static void wait_until_quiet(long looks) {
  uint64_t since = 0, passes = 0;

  for (long switches = 0;;) {
    long seen = wakeups();
    uint64_t now = stats_now().compactions;
    if (since == 0 || seen > switches + looks || now != passes) {
      since = now_ns();
      switches = seen;
      passes = now;
    }
    if (now_ns() - since > QUIET_NS) return;
    pause_ns(100000000);
  }
}

/* When the kernel told, or 0: the last look before that, so that it is rather too early. The thread
 * that sleeps and has nothing to do runs for that reason alone. */
static uint64_t moment(int events) {
  uint64_t begin = now_ns(), last = begin;
  uint64_t before = events < 0 ? times_run() : count_high(events);

  while (last - begin < WAIT_S * (uint64_t)1000000000) {
    uint64_t look = now_ns();
    if ((events < 0 ? times_run() : count_high(events)) != before) return last;
    last = look;
    sched_yield();
  }
  return 0;
}

static void waste_memory(void) {
  char *block = checked(malloc(WASTE));

  memset(block, 1, WASTE);
  free(block);
}

static int usage(void) {
  fputs("usage: pressure [-m MiB] [-n TIMES] [-s SECONDS] [-e EVENTS] [FILE]\n", stderr);
  return 2;
}

int main(int argc, char **argv) {
  size_t mib = 64, times = 5, seconds = 10;
  const char *events_path = NULL;
  int64_t passed[TIMES_MOST];
  struct sparse_heap heap;
  struct utsname system;
  int option;

  while ((option = getopt(argc, argv, "m:n:s:e:")) != -1) {
    if (option == 'm')
      mib = strtoul(optarg, NULL, 10);
    else if (option == 'n')
      times = strtoul(optarg, NULL, 10);
    else if (option == 's')
      seconds = strtoul(optarg, NULL, 10);
    else if (option == 'e')
      events_path = optarg;
    else
      return usage();
  }
  const char *path = argv[optind]; /* NULL: it grows */
  if (argc - optind > 1 || (path == NULL && events_path == NULL)) return usage();
  if (mib == 0 || times == 0 || times > TIMES_MOST) return usage();
  stats = (int (*)(struct quire_stats *))dlsym(RTLD_DEFAULT, "quire_stats");
  if (stats == NULL) {
    fputs("pressure: this is not quire\n", stderr);
    return 1;
  }
  if (pipe2(orders, O_CLOEXEC) != 0) fail("pipe");
  pid_t helper = fork();
  if (helper == 0) run_helper(path, events_path);
  if (helper < 0) fail("fork");

  sparse_prepare(&heap, mib << 20, 7);
  sparse_fill(&heap);
  sparse_free(&heap, PERCENT);
  /* On a slow machine a pass that it begins by itself may come only after it seemed quiet. */
  if (path == NULL) (void)sparse_call_run(CALL_COMPACT);
  for (int i = 0; i < 600 && !find_background(); i++) pause_ns(10000000);
  if (background[0] == 0) {
    fputs("pressure: there is no background thread\n", stderr);
    return 1;
  }
  long woken = 0;
  if (seconds > 0) {
    wait_until_quiet(0);
    long before = wakeups();
    pause_ns(seconds * 1000000000u);
    woken = wakeups() - before;
  }

  int events = events_path == NULL ? -1 : open_events(events_path);
  for (size_t i = 0; i < times; i++) {
    if (path == NULL) waste_memory();
    wait_until_quiet(path == NULL ? POLLS : 0);
    uint64_t was = stats_now().compactions;
    order('r');
    uint64_t told = moment(events);
    if (told == 0) {
      fputs("pressure: the kernel told of none within a minute\n", stderr);
      return 1;
    }
    passed[i] = -1;
    /* Who asks for numbers without a pause has the locks that the pass needs. */
    while (passed[i] < 0 && now_ns() - told < (uint64_t)GIVE_UP_S * 1000000000u) {
      if (stats_now().compactions != was)
        passed[i] = (int64_t)(now_ns() - told);
      else
        pause_ns(LOOK_NS);
    }
    order('s');
  }
  close(orders[1]);
  waitpid(helper, NULL, 0);
  uname(&system);
  printf("{\"verified\": %s, \"kind\": \"%s\", \"kernel\": \"%s\", \"seconds\": %zu, "
         "\"wakeups\": %ld, \"pass\": [",
         sparse_damaged(&heap, 0) == 0 ? "true" : "false",
         events_path != NULL ? "memory.high" : "stalls", system.release, seconds, woken);
  for (size_t i = 0; i < times; i++) printf("%s%" PRId64, i > 0 ? ", " : "", passed[i]);
  printf("]}\n");
  return 0;
}
