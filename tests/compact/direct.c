/* direct ROUNDS DIRECTORY: direct I/O into memory that was asked for with an alignment for it,
 * while the heap around it is meshed and the process forks. Nothing that is read may be lost.
 *
 * What the kernel reads by O_DIRECT it writes to the page that was there when the call began. A
 * fork freezes meshed memory: from then on whoever stores to such a page gets a copy of it. If that
 * is another object of the same page, and the data come later, they go to the page that nobody sees
 * any more. No call tells that a page is held so, and thus what was asked for with an alignment of
 * 512 bytes or more has to have its frames to itself, and never memory that compaction shares.
 *
 * Each round makes a sparse heap of aligned and of plain objects, compacts it and sees to it that
 *
 *   - no aligned object has another one in its frame, nor lies in memory of compaction's file, now
 *     or before a fork, while plain ones do: where they are meshed this is certain to fail;
 *   - while readers have direct reads of many objects at a time under way, and writers store to
 *     whatever lies in the frames of just these, forks and passes lose nothing of what is read or
 *     stored, and children see what lies idle: where they are meshed most rounds lose reads.
 *
 * A frame is not meshed again while something in it lives, so the next round has a new heap. After
 * a loss the program goes on, so that all are counted. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"
#include "may_mesh.h"

enum {
  SIZE = 512, /* of an object, and the alignment of every second one */
  WORDS = SIZE / 8,
  FRAME = 4096,
  OBJECTS = 32768,
  KEEP_ONE_IN = 8,
  READERS = 4,
  WRITERS = 2, /* each is after READERS / WRITERS readers */
  BATCH = 128, /* most objects of one read */
  FORKS = 3,   /* in a round: the first finds the zone open */
  FILE_BLOCKS = 16384,
  TOLD_MOST = 10, /* losses; all are counted */
};

enum role { IDLE, TARGET, STORED };

static struct object {
  unsigned char *p;
  uint64_t key; /* what it holds */
  bool aligned;
  enum role role;
} objects[OBJECTS]; /* in the order of their addresses, but while they are made */
static unsigned nobjects;

/* Objects that one thread reads into, each with those of its frame that a writer stores to. */
static struct target {
  struct object *object;
  struct object *beside[FRAME / SIZE];
  unsigned nbeside;
} targets[READERS][OBJECTS / KEEP_ONE_IN];
static unsigned ntargets[READERS];
static _Atomic uint32_t under_way[READERS]; /* first target << 16 | targets of the read */
static struct object *others[WRITERS][OBJECTS / KEEP_ONE_IN]; /* that have no target beside them */
static unsigned nothers[WRITERS];

static _Atomic bool stop;
static sem_t begun; /* posted by each reader for each of its first reads */
static _Atomic uint64_t reads, stores, losses;
static _Atomic unsigned forks;
static unsigned rounds, meshed_rounds;
static size_t (*compact)(void);
static int file = -1;

#define STRIDE 0x9e3779b97f4a7c15ull
#define FILE_KEY 0x51a7e5eed0f11e00ull

static uint64_t mix(uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ x >> 27) * 0x94d049bb133111ebull;
  return x ^ x >> 31;
}

static uint64_t next_random(uint64_t *state) { return mix(*state += STRIDE); }

static unsigned pick(uint64_t *state, unsigned below) {
  return (unsigned)((next_random(state) >> 32) * below >> 32);
}

__attribute__((format(printf, 1, 2))) static void lost(const char *format, ...) {
  char line[256];
  va_list arguments;
  if (atomic_fetch_add(&losses, 1) >= TOLD_MOST) return;
  va_start(arguments, format);
  int n = vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  EXPECT(n > 0 && (size_t)n < sizeof line && write(STDOUT_FILENO, line, (size_t)n) == n);
}

/* ---- contents: word i is mix(key + i * STRIDE), of an object as of the file ---- */

static void fill(void *to, uint64_t key, unsigned words) {
  for (unsigned i = 0; i < words; i++) {
    uint64_t word = mix(key + i * STRIDE);
    memcpy((unsigned char *)to + i * 8, &word, 8);
  }
}

/* What was lost is put right, so that it is told once. */
static void check(const struct object *o, const char *when) {
  for (unsigned i = 0; i < WORDS; i++) {
    uint64_t want = mix(o->key + i * STRIDE), got;
    memcpy(&got, o->p + i * 8, 8);
    if (got == want) continue;
    lost("%s: round %u, fork %u: %s object %p at +%u: found %016lx, expected %016lx\n", when,
         rounds, atomic_load(&forks), o->aligned ? "aligned" : "plain", (void *)o->p, i * 8,
         (unsigned long)got, (unsigned long)want);
    fill(o->p, o->key, WORDS);
    return;
  }
}

static uint64_t key_of_block(unsigned block) { return FILE_KEY + (uint64_t)block * WORDS * STRIDE; }

/* NULL, or why there is no direct I/O. */
static const char *make_file(const char *directory) {
  static unsigned char bytes[64 * SIZE], *block;
  char path[512];
  struct statfs fs;
  snprintf(path, sizeof path, "%s/known", directory);
  int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  EXPECT(fd >= 0);
  for (unsigned at = 0; at < FILE_BLOCKS; at += 64) {
    fill(bytes, key_of_block(at), 64 * WORDS);
    EXPECT(write(fd, bytes, sizeof bytes) == sizeof bytes);
  }
  EXPECT(fsync(fd) == 0 && fstatfs(fd, &fs) == 0);
  close(fd);
  if (fs.f_type == TMPFS_MAGIC) return "a tmpfs has no direct I/O, although it takes O_DIRECT";
  file = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
  block = aligned_alloc(SIZE, SIZE);
  bool can = file >= 0 && block != NULL && pread(file, block, SIZE, SIZE) == SIZE;
  free(block);
  return can ? NULL : "the file system has no O_DIRECT of 512 bytes";
}

/* ---- the heap ---- */

static uintptr_t frame_of(const struct object *o) { return (uintptr_t)o->p / FRAME; }

static int by_address(const void *a, const void *b) {
  const struct object *x = a, *y = b;
  return (x->p > y->p) - (x->p < y->p);
}

/* Those with an alignment in two ways. */
static void make(struct object *o, unsigned i, uint64_t key) {
  void *p = NULL;
  if (i % 2 != 0)
    p = malloc(SIZE);
  else if (i % 4 != 0)
    p = aligned_alloc(SIZE, SIZE);
  else
    EXPECT(posix_memalign(&p, SIZE, SIZE) == 0);
  EXPECT(p != NULL);
  *o = (struct object){.p = p, .key = key, .aligned = i % 2 == 0};
  fill(p, key, WORDS);
}

static void build(uint64_t *random) {
  for (unsigned i = 0; i < OBJECTS; i++) make(&objects[i], i, next_random(random));
  nobjects = OBJECTS;
  qsort(objects, nobjects, sizeof objects[0], by_address);
}

static void thin(uint64_t *random) {
  unsigned kept = 0;
  for (unsigned i = 0; i < nobjects; i++) {
    if (pick(random, KEEP_ONE_IN) != 0)
      free(objects[i].p);
    else
      objects[kept++] = objects[i];
  }
  nobjects = kept;
}

static void empty(void) {
  for (unsigned i = 0; i < nobjects; i++) {
    check(&objects[i], "at the end of a round");
    free(objects[i].p);
  }
  nobjects = 0;
}

/* As far as one pass finds a reason not to; another can find more. */
static void compact_all(void) {
  for (int i = 0; i < 8 && compact() > 0; i++) continue;
}

/* ---- what must be so of aligned memory, whatever is read ---- */

static void check_apart(void) {
  unsigned bad = 0;
  const struct object *first = NULL;
  for (unsigned i = 0; i < nobjects; i++) {
    const struct object *o = &objects[i];
    bool before = i > 0 && frame_of(o - 1) == frame_of(o);
    bool after = i + 1 < nobjects && frame_of(o + 1) == frame_of(o);
    if (!o->aligned || !(before || after)) continue;
    if (bad++ == 0) first = o;
  }
  if (bad != 0)
    lost("round %u: %u aligned objects have others in their frames, as %p\n", rounds, bad,
         (void *)first->p);
}

/* Memory of compaction's file: shared as of now, private as frozen by a fork. Returns the plain
 * objects that have memory which is shared. */
static unsigned check_unmeshed(const char *when) {
  char line[512];
  unsigned i = 0, bad = 0, plain = 0;
  const struct object *first = NULL;
  FILE *f = fopen("/proc/self/maps", "re");
  EXPECT(f != NULL);
  while (fgets(line, sizeof line, f) != NULL) {
    unsigned long from, to;
    char shared;
    if (strstr(line, "/memfd:quire (deleted)") == NULL) continue;
    EXPECT(sscanf(line, "%lx-%lx %*3c%c", &from, &to, &shared) == 3);
    while (i < nobjects && (uintptr_t)objects[i].p < from) i++;
    for (; i < nobjects && (uintptr_t)objects[i].p < to; i++) {
      plain += !objects[i].aligned && shared == 's';
      if (objects[i].aligned && bad++ == 0) first = &objects[i];
    }
  }
  fclose(f);
  if (bad != 0)
    lost("%s: round %u: %u aligned objects have memory of compaction's file, as %p\n", when, rounds,
         bad, (void *)first->p);
  return plain;
}

/* ---- who uses what ---- */

/* The objects of a frame. One is read into if there is an aligned one, and the others but every
 * third are stored to; what is alone is this or that. */
static void deal_frame(struct object *from, unsigned n, uint64_t *random) {
  static unsigned turn;
  struct target *t = NULL;
  unsigned reader = turn++ % READERS, writer = reader % WRITERS;
  for (unsigned i = 0; i < n && t == NULL; i++) {
    if (!from[i].aligned || (n == 1 && pick(random, 2) != 0)) continue;
    from[i].role = TARGET;
    t = &targets[reader][ntargets[reader]++];
    *t = (struct target){.object = &from[i]};
  }
  for (unsigned i = 0, k = 0; i < n; i++) {
    if (from[i].role == TARGET || ++k % 3 == 0 || (n == 1 && pick(random, 2) != 0)) continue;
    from[i].role = STORED;
    if (t != NULL)
      t->beside[t->nbeside++] = &from[i];
    else
      others[writer][nothers[writer]++] = &from[i];
  }
}

static void deal(uint64_t *random) {
  memset(ntargets, 0, sizeof ntargets);
  memset(nothers, 0, sizeof nothers);
  for (unsigned i = 0, n; i < nobjects; i += n) {
    for (n = 1; i + n < nobjects && frame_of(&objects[i + n]) == frame_of(&objects[i]);) n++;
    deal_frame(&objects[i], n, random);
  }
}

/* ---- threads ---- */

/* Mostly many objects at a time: then the read takes long, and holds all of their pages. */
static void *run_reader(void *arg) {
  unsigned who = (unsigned)(uintptr_t)arg;
  uint64_t random = mix(rounds * READERS + who);
  struct iovec iov[BATCH];
  EXPECT(ntargets[who] > 0 && ntargets[who] < 1 << 16);
  for (unsigned turn = 0; !atomic_load(&stop); turn++) {
    unsigned n = pick(&random, 8) == 0 ? 1 : BATCH;
    if (n > ntargets[who]) n = ntargets[who];
    unsigned first = pick(&random, ntargets[who] - n + 1);
    unsigned block = pick(&random, FILE_BLOCKS - BATCH);
    struct target *t = &targets[who][first];
    for (unsigned i = 0; i < n; i++) {
      iov[i] = (struct iovec){t[i].object->p, SIZE};
      t[i].object->key = key_of_block(block + i);
    }
    atomic_store(&under_way[who], first << 16 | n);
    if (turn < FORKS) EXPECT(sem_post(&begun) == 0);
    ssize_t got = n == 1 ? pread(file, iov[0].iov_base, SIZE, (off_t)block * SIZE)
                         : preadv(file, iov, (int)n, (off_t)block * SIZE);
    EXPECT(got == (ssize_t)n * SIZE);
    atomic_fetch_add_explicit(&reads, n, memory_order_relaxed);
    for (unsigned i = 0; i < n; i++) check(t[i].object, "read");
  }
  return NULL;
}

static void store(struct object *o, uint64_t *random) {
  check(o, "stored");
  o->key = next_random(random);
  fill(o->p, o->key, WORDS);
  atomic_fetch_add_explicit(&stores, 1, memory_order_relaxed);
}

static void *run_writer(void *arg) {
  unsigned who = (unsigned)(uintptr_t)arg;
  uint64_t random = mix(~(uint64_t)(rounds * WRITERS + who));
  while (!atomic_load(&stop)) {
    for (unsigned reader = who; reader < READERS; reader += WRITERS) {
      uint32_t window = atomic_load(&under_way[reader]);
      struct target *t = &targets[reader][window >> 16];
      for (unsigned i = 0; i < (window & 0xffff); i++)
        for (unsigned k = 0; k < t[i].nbeside; k++) store(t[i].beside[k], &random);
    }
    if (nothers[who] > 0) store(others[who][pick(&random, nothers[who])], &random);
  }
  return NULL;
}

/* The others of its objects are being changed. */
static void child(void) {
  uint64_t before = atomic_load(&losses);
  for (unsigned i = 0; i < nobjects; i++)
    if (objects[i].role == IDLE) check(&objects[i], "in a child");
  _exit(atomic_load(&losses) != before);
}

static void fork_once(void) {
  int status;
  for (unsigned i = 0; i < READERS;)
    if (sem_wait(&begun) == 0) i++;
  pid_t pid = fork();
  EXPECT(pid >= 0);
  if (pid == 0) child();
  atomic_fetch_add(&forks, 1);
  EXPECT(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
  if (status != 0) atomic_fetch_add(&losses, 1);
}

static void use(void) {
  pthread_t threads[READERS + WRITERS];
  memset(under_way, 0, sizeof under_way);
  atomic_store(&stop, false);
  EXPECT(sem_init(&begun, 0, 0) == 0);
  for (uintptr_t i = 0; i < READERS + WRITERS; i++) {
    bool reads = i < READERS;
    EXPECT(pthread_create(&threads[i], NULL, reads ? run_reader : run_writer,
                          (void *)(reads ? i : i - READERS)) == 0);
  }
  for (unsigned i = 0; i < FORKS; i++) {
    fork_once();
    (void)compact(); /* soon after a fork, too */
    (void)check_unmeshed("beside reads");
  }
  atomic_store(&stop, true);
  for (unsigned i = 0; i < READERS + WRITERS; i++) EXPECT(pthread_join(threads[i], NULL) == 0);
  EXPECT(sem_destroy(&begun) == 0);
}

static void one_round(const char *no_mesh, const char *no_direct) {
  uint64_t random = mix(rounds);
  build(&random);
  check_apart();
  thin(&random);
  compact_all();
  unsigned meshed = check_unmeshed("compacted");
  meshed_rounds += meshed != 0;
  deal(&random);
  if (no_mesh == NULL && no_direct == NULL) use();
  empty();
  rounds++;
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  const char *no_mesh = why_no_mesh(), *no_direct = make_file(argv[2]);
  unsigned n = (unsigned)strtoul(argv[1], NULL, 10);
  compact = (size_t(*)(void))dlsym(RTLD_DEFAULT, "quire_compact");
  EXPECT(compact != NULL);
  if (no_mesh != NULL || no_direct != NULL) n = 1;
  while (rounds < n) one_round(no_mesh, no_direct);
  printf("%u rounds, %u of them meshed, %u forks, %lu objects read, %lu stored, %lu losses\n",
         rounds, meshed_rounds, atomic_load(&forks), (unsigned long)atomic_load(&reads),
         (unsigned long)atomic_load(&stores), (unsigned long)atomic_load(&losses));
  if (atomic_load(&losses) != 0) return 1;
  if (no_mesh == NULL && meshed_rounds < rounds) {
    puts("not every round was meshed: this shows nothing");
    return 1;
  }
  if (no_mesh != NULL || no_direct != NULL) puts(no_mesh != NULL ? no_mesh : no_direct);
  return no_mesh != NULL || no_direct != NULL ? 77 : 0;
}
