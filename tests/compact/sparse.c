/* sparse WHAT...: a heap of small objects, most of them freed at random, and then compacted; what
 * is left must hold what it held. WHAT says how, and what else must be so:
 *
 *   may          says whether the process may mesh; 77 and the reason if it may not
 *   mesh         quire_compact gains, by meshing if the process may
 *   given        it does, since it was given a descriptor, although it may not open one itself
 *   alone        the same, and nobody asks for it
 *   hollow       it gains without meshing
 *   limited      it may gain nothing, but nothing fails
 *   maps N P     it takes at most P per cent of N mappings, and the program gets the rest
 *   child        a forked child compacts; "later": the parent has, before the fork
 *   closes       all descriptors are closed meanwhile
 *   sandboxes    the program forbids itself all that compaction needs, and goes on
 *   exit US N    exits with N, some microseconds after compaction began */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "expect.h"
#include "may_mesh.h"

enum { OBJECTS = 240000, LIVE_PERCENT = 12, DEADLINE_S = 60 };

static struct {
  unsigned char *p;
  uint32_t size;
  uint32_t stamp; /* of all its bytes */
} objects[OBJECTS];
static uint64_t seed = 42;
static size_t (*compact)(void);

static unsigned pick(unsigned below) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (unsigned)((seed >> 33) * below >> 31);
}

static void make(unsigned i) {
  objects[i].size = 16 + pick(pick(3) ? 240 : 1008);
  objects[i].stamp = pick(255) + 1;
  objects[i].p = malloc(objects[i].size);
  EXPECT(objects[i].p != NULL);
  memset(objects[i].p, (int)objects[i].stamp, objects[i].size);
}

static void verify(void) {
  for (unsigned i = 0; i < OBJECTS; i++)
    for (uint32_t k = 0; objects[i].p != NULL && k < objects[i].size; k++)
      if (objects[i].p[k] != objects[i].stamp) {
        printf("object %u at %p, byte %u: %u, not %u\n", i, (void *)objects[i].p, k,
               objects[i].p[k], objects[i].stamp);
        fflush(stdout);
        _exit(1);
      }
}

static void drop(unsigned i) {
  free(objects[i].p);
  objects[i].p = NULL;
}

static void build(void) {
  for (unsigned i = 0; i < OBJECTS; i++) make(i);
}

static void thin(void) {
  for (unsigned i = 0; i < OBJECTS; i++)
    if (objects[i].p != NULL && pick(100) >= LIVE_PERCENT) drop(i);
}

/* All kinds of changes to what is left. */
static void go_on(void) {
  for (unsigned i = 0; i < OBJECTS; i++) {
    if (objects[i].p == NULL) {
      if (pick(20) == 0) make(i);
    } else if (pick(3) == 0) {
      drop(i);
    } else if (pick(3) == 0) {
      objects[i].stamp = pick(255) + 1;
      memset(objects[i].p, (int)objects[i].stamp, objects[i].size);
    }
  }
  verify();
}

/* The process's mappings, and in *zone those of memory that compaction shares; private ones of the
 * same file are of the time before a fork. */
static size_t count_maps(size_t *zone) {
  char line[512];
  size_t lines = 0;
  FILE *f = fopen("/proc/self/maps", "re");
  EXPECT(f != NULL);
  *zone = 0;
  for (; fgets(line, sizeof line, f) != NULL; lines++)
    *zone += strstr(line, " rw-s ") != NULL && strstr(line, "/memfd:quire") != NULL;
  fclose(f);
  return lines;
}

static bool is_meshed(void) {
  size_t zone;
  count_maps(&zone);
  return zone > 1; /* one is compaction's own view */
}

static long pss_kib(void) {
  static char text[4096];
  int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
  ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  EXPECT(n > 0);
  close(fd);
  text[n] = 0;
  const char *at = strstr(text, "\nPss:");
  EXPECT(at != NULL);
  return strtol(at + 5, NULL, 10);
}

static double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* As far as one pass finds a reason not to; another can find more. */
static size_t compact_all(void) {
  size_t all = 0, gained;
  for (int i = 0; i < 8 && (gained = compact()) > 0; i++) all += gained;
  return all;
}

static void mesh(bool asked, const char *why_not) {
  build();
  thin();
  long before = pss_kib();
  double end = now_s() + DEADLINE_S;
  if (asked) EXPECT(compact_all() > 0);
  while (!asked && now_s() < end && !(is_meshed() == (why_not == NULL) && pss_kib() < before))
    usleep(1000);
  EXPECT(is_meshed() == (why_not == NULL));
  verify();
  EXPECT(pss_kib() < before);
  for (int i = 0; i < 4; i++) {
    go_on();
    if (asked) (void)compact();
  }
  verify();
  if (why_not != NULL) printf("SKIP meshing: %s\n", why_not);
}

static void hollow(void) {
  build();
  thin();
  long before = pss_kib();
  EXPECT(compact_all() > 0);
  EXPECT(!is_meshed());
  EXPECT(pss_kib() < before);
  go_on();
  (void)compact();
  verify();
  EXPECT(!is_meshed());
}

static void limited(void) {
  build();
  thin();
  (void)compact_all();
  for (int i = 0; i < 4; i++) {
    go_on();
    (void)compact();
  }
}

/* Mappings of the program's own that can't become one with their neighbours. */
static void maps(size_t limit, size_t percent) {
  size_t zone, own = 0;
  build();
  thin();
  for (int i = 0; i < 6; i++) {
    (void)compact();
    EXPECT(count_maps(&zone) <= limit * percent / 100 + 200);
    go_on();
  }
  size_t all = count_maps(&zone);
  char *area = mmap(NULL, limit * 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT(area != MAP_FAILED);
  while (own < limit / 2 && mprotect(area + own * 8192, 4096, PROT_READ) == 0) own++;
  EXPECT(own * 2 + all + 8 >= limit);
  /* None is left: compaction gains nothing now, and nothing fails by it. */
  (void)compact();
  go_on();
  EXPECT(munmap(area, limit * 8192) == 0);
  (void)compact();
  go_on();
  if (why_no_mesh() != NULL) printf("SKIP meshing: %s\n", why_no_mesh());
}

static void child(bool later) {
  int status;
  const char *why_not = why_no_mesh();
  build();
  thin();
  if (later) (void)compact_all();
  pid_t pid = fork();
  EXPECT(pid >= 0);
  verify();
  if (pid != 0) {
    go_on();
    if (later) (void)compact();
    EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
    go_on();
    return;
  }
  size_t gained = compact_all();
  verify();
  EXPECT(later || (gained > 0 && is_meshed() == (why_not == NULL)));
  for (int i = 0; i < 3; i++) {
    go_on();
    (void)compact();
  }
  build(); /* over what it had: lost, but new memory comes */
  thin();
  (void)compact_all();
  verify();
  _exit(0);
}

static _Atomic bool closing_ends;

static void *close_all(void *arg) {
  while (!closing_ends) closefrom(3);
  return arg;
}

static void closes(void) {
  pthread_t thread;
  const char *why_not = why_no_mesh();
  EXPECT(pthread_create(&thread, NULL, close_all, NULL) == 0);
  build();
  thin();
  size_t gained = compact_all();
  for (int i = 0; i < 4; i++) {
    go_on();
    (void)compact();
  }
  closing_ends = true;
  pthread_join(thread, NULL);
  EXPECT(gained > 0);
  EXPECT(is_meshed() == (why_not == NULL));
  int fd = open("/dev/null", O_RDONLY);
  EXPECT(fd == 3); /* and none is compaction's */
}

/* The background thread's id, and how often it has gone to sleep; 0 without one. */
static long sleeps_of_background(void) {
  char path[64], text[2048];
  long found = 0;
  DIR *dir = opendir("/proc/self/task");
  struct dirent *entry;
  EXPECT(dir != NULL);
  while (found == 0 && (entry = readdir(dir)) != NULL) {
    snprintf(path, sizeof path, "/proc/self/task/%.16s/status", entry->d_name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) close(fd);
    if (n <= 0) continue;
    text[n] = 0;
    const char *at = strstr(text, "\nvoluntary_ctxt_switches:");
    if (strncmp(text, "Name:\tquire\n", 12) == 0 && at != NULL) found = strtol(at + 25, NULL, 10);
  }
  closedir(dir);
  return found;
}

/* A filter that comes while the thread is at work finds it at calls that it forbids. */
static void await_quiet(void) {
  double end = now_s() + DEADLINE_S;
  long before, after = sleeps_of_background();
  do {
    before = after;
    usleep(300000);
    after = sleeps_of_background();
  } while (after != before && now_s() < end);
  EXPECT(after == before);
}

static void sandboxes(void) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 6, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_memfd_create, 5, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 4, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fallocate, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mremap, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_enter, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
  };
  struct sock_fprog program = {sizeof code / sizeof code[0], code};
  build();
  thin();
  (void)compact_all();
  await_quiet();
  EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  EXPECT(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0);
  for (int i = 0; i < 4; i++) {
    go_on();
    (void)compact();
  }
}

static void *compact_for_ever(void *arg) {
  while (true) (void)compact();
  return arg;
}

static void leave(long us, int status) {
  pthread_t thread;
  build();
  thin();
  EXPECT(pthread_create(&thread, NULL, compact_for_ever, NULL) == 0);
  for (double end = now_s() + (double)us / 1e6; now_s() < end;) {
    objects[0].p = realloc(objects[0].p, 16 + pick(500));
    EXPECT(objects[0].p != NULL);
  }
  printf("last line\n");
  exit(status);
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  if (strcmp(what, "may") == 0) {
    if (why_no_mesh() != NULL) puts(why_no_mesh());
    return why_no_mesh() != NULL ? 77 : 0;
  }
  compact = (size_t(*)(void))dlsym(RTLD_DEFAULT, "quire_compact");
  EXPECT(compact != NULL);
  if (strcmp(what, "mesh") == 0)
    mesh(true, why_no_mesh());
  else if (strcmp(what, "alone") == 0)
    mesh(false, why_no_mesh());
  else if (strcmp(what, "given") == 0)
    mesh(true, NULL);
  else if (strcmp(what, "hollow") == 0)
    hollow();
  else if (strcmp(what, "limited") == 0)
    limited();
  else if (strcmp(what, "maps") == 0 && argc > 3)
    maps(strtoul(argv[2], NULL, 10), strtoul(argv[3], NULL, 10));
  else if (strcmp(what, "child") == 0)
    child(argc > 2);
  else if (strcmp(what, "closes") == 0)
    closes();
  else if (strcmp(what, "sandboxes") == 0)
    sandboxes();
  else if (strcmp(what, "exit") == 0 && argc > 3)
    leave(atol(argv[2]), atoi(argv[3]));
  else
    return 2;
  return 0;
}
