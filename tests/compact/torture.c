/* torture SECONDS DIRECTORY: threads use a heap that is being compacted without pause, in all the
 * ways in which memory can be used, with forks throughout; nothing may be lost.
 *
 * The heap grows to some 200 MB and is freed at random but for a tenth or a fifth, in waves. All
 * contents are known (cells) and compared again and again; so are counters in the heap that many
 * threads add to, and mutexes in the heap guard others. Forked children compare everything with the
 * truth as it was when they were forked while their parent goes on, and change and compact their
 * own heap. The library is only looked up: without it this is a test of itself. */
#include "torture.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "may_mesh.h"

enum {
  PARCELS = 256, /* objects on their way from one thread to another */
  COUNTERS = 4096,
  GUARDED = 1024,
  HOT = 4, /* mutexes that everybody wants */
  MANY_THREADS = OWNERS + 4,
  HOLD_ONE_IN = 64,  /* of the chances to pin an object: what was pinned is meshed no more */
  PIN_LONG = 1,      /* QUIRE_PIN_LONG */
  CHILD_WAIT = 2000, /* changes that a parent makes between a child's looks */
};

struct owner owners[OWNERS];
const char *directory;
_Atomic bool stop;
_Atomic unsigned wave;
pthread_rwlock_t accidental;

static struct cell cells[WORKERS * WORKER_CELLS + (OWNERS - WORKERS) * IO_CELLS];
static struct {
  _Atomic uint32_t lock;
  struct cell cell;
} parcels[PARCELS];

/* In the heap, with the truth beside them. */
static _Atomic uint64_t *counters[COUNTERS], counted[COUNTERS];
static struct guarded {
  pthread_mutex_t mutex;
  uint64_t value, inverse;
} * guarded[GUARDED];
static uint64_t guarded_truth[GUARDED];

static _Atomic uint64_t *progress; /* of all threads; a forked child sees its parent's */
static _Atomic uint64_t *parent_stops;
static _Atomic unsigned obeyed; /* workers that have done what the wave asks for */
static _Atomic uint64_t passes, gains, gained, meshed_seen, forks, child_compactions;
static _Atomic uint64_t holds;
static size_t (*compact)(void);
static int (*pin)(const void *, size_t, int), (*unpin)(const void *, size_t, int);
static bool in_child;

/* ---- contents ---- */

static uint64_t mix(uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ x >> 27) * 0x94d049bb133111ebull;
  return x ^ x >> 31;
}

uint64_t word_of(uint64_t key, uint64_t i) { return mix(key + i * STRIDE); }

uint64_t next_random(uint64_t *state) { return mix(*state += STRIDE); }

unsigned pick(struct owner *o, unsigned below) {
  return (unsigned)((next_random(&o->random) >> 32) * below >> 32);
}

void fill(void *p, size_t size, uint64_t key, uint64_t version) {
  unsigned char *to = p;
  for (size_t at = 0; at < size; at += 8) {
    uint64_t word = word_of(key, at / 8) + (at == 0 ? version : 0);
    memcpy(to + at, &word, size - at < 8 ? size - at : 8);
  }
}

static void print_mapping(const void *p) {
  char line[512];
  FILE *f = fopen("/proc/self/maps", "re");
  while (f != NULL && fgets(line, sizeof line, f) != NULL) {
    unsigned long from, to;
    if (sscanf(line, "%lx-%lx", &from, &to) == 2 && (uintptr_t)p >= from && (uintptr_t)p < to)
      fprintf(stderr, "  mapped there: %s", line);
  }
}

void lost(const void *p, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "torture: %s, wave %u, pass %lu: ", in_child ? "a child" : "the parent",
          atomic_load(&wave), (unsigned long)atomic_load(&passes));
  vfprintf(stderr, format, arguments);
  fprintf(stderr, "\n");
  if (p != NULL) print_mapping(p);
  abort();
}

static void check(const struct cell *c, const char *when) {
  for (size_t at = 0; at < c->size; at += 8) {
    uint64_t want = word_of(c->key, at / 8) + (at == 0 ? c->version : 0), got = 0;
    size_t n = c->size - at < 8 ? c->size - at : 8;
    memcpy(&got, c->p + at, n);
    if (memcmp(&got, &want, n) != 0)
      lost(c->p + at, "%s: object %p of %u bytes at +%zu: %016lx, not %016lx (version %lu)", when,
           (void *)c->p, c->size, at, (unsigned long)got, (unsigned long)want,
           (unsigned long)c->version);
  }
}

void cell_check(struct owner *o, struct cell *c, const char *when) {
  check(c, when);
  atomic_store_explicit(&o->checked, o->checked + 1, memory_order_relaxed);
}

/* ---- changes ---- */

void cell_begin(struct cell *c) { atomic_store(&c->busy, 1); }

static void done(struct cell *c) {
  atomic_store(&c->busy, 0);
  if (!in_child) atomic_fetch_add_explicit(progress, 1, memory_order_relaxed);
}

void cell_make(struct owner *o, struct cell *c, unsigned size, unsigned alignment) {
  void *p = NULL;
  cell_begin(c);
  if (alignment <= 16)
    p = malloc(size);
  else if (posix_memalign(&p, alignment, size) != 0)
    p = NULL;
  if (p == NULL) lost(NULL, "no memory for %u bytes", size);
  c->p = p;
  c->size = size;
  c->alignment = alignment;
  c->key = next_random(&o->random);
  c->version = 0;
  fill(p, size, c->key, 0);
  done(c);
}

void cell_free(struct owner *o, struct cell *c, const char *when) {
  cell_check(o, c, when);
  cell_begin(c);
  free(c->p);
  c->p = NULL;
  done(c);
}

void cell_rewrite(struct owner *o, struct cell *c) {
  uint64_t key = next_random(&o->random);
  cell_begin(c);
  fill(c->p, c->size, key, 0);
  c->key = key;
  c->version = 0;
  done(c);
}

void cell_filled(struct owner *o, struct cell *c, uint64_t key, const char *when) {
  c->key = key;
  c->version = 0;
  cell_check(o, c, when);
  done(c);
}

/* One store. */
static void touch(struct cell *c) {
  cell_begin(c);
  c->version++;
  uint64_t word = word_of(c->key, 0) + c->version;
  memcpy(c->p, &word, sizeof word);
  done(c);
}

static void resize(struct owner *o, struct cell *c) {
  struct cell before = *c;
  unsigned size = 16 + pick(o, 1500);
  cell_begin(c);
  c->p = realloc(c->p, size);
  if (c->p == NULL) lost(NULL, "no memory for %u bytes", size);
  before.p = c->p;
  if (before.size > size) before.size = size;
  check(&before, "after realloc");
  fill(c->p, size, c->key, c->version);
  c->size = size;
  c->alignment = 16;
  done(c);
}

/* Swaps an object with whatever another thread has left there. */
static void pass_on(struct owner *o, struct cell *c) {
  unsigned i = pick(o, PARCELS);
  if (atomic_exchange(&parcels[i].lock, 1) != 0) return;
  cell_begin(c);
  struct cell *other = &parcels[i].cell, mine = *c;
  c->p = other->p;
  c->size = other->size;
  c->alignment = other->alignment;
  c->key = other->key;
  c->version = other->version;
  other->p = mine.p;
  other->size = mine.size;
  other->alignment = mine.alignment;
  other->key = mine.key;
  other->version = mine.version;
  atomic_store(&parcels[i].lock, 0);
  done(c);
}

static unsigned some_size(struct owner *o) {
  unsigned kind = pick(o, 1000);
  if (kind < 600) return 16 + pick(o, 240);
  if (kind < 950) return 16 + pick(o, 1009);
  if (kind < 990) return 1025 + pick(o, 2560);
  if (kind < 999) return 3585 + pick(o, 4440);
  return 8192 + pick(o, 250000);
}

/* ---- the kernel, as a worker uses it ---- */

struct tools {
  int ends[2], line[2], file;
};

static void need(bool ok, const char *what) {
  if (!ok) lost(NULL, "%s: %s", what, strerror(errno));
}

static void open_tools(struct tools *t) {
  need(pipe2(t->ends, O_CLOEXEC) == 0, "pipe");
  need(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, t->line) == 0, "socketpair");
  t->file = open(file_path, O_RDONLY | O_CLOEXEC);
  need(t->file >= 0, "open");
}

static void receive(struct owner *o, struct cell *c, const struct tools *t, bool from_pipe) {
  unsigned char bytes[4096];
  uint64_t key = next_random(&o->random);
  if (c->size > sizeof bytes) return;
  ssize_t size = c->size;
  fill(bytes, c->size, key, 0);
  cell_begin(c);
  if (from_pipe) {
    need(write(t->ends[1], bytes, c->size) == size, "write to a pipe");
    need(read(t->ends[0], c->p, c->size) == size, "read into the heap");
  } else {
    need(send(t->line[1], bytes, c->size, 0) == size, "send");
    need(recv(t->line[0], c->p, c->size, 0) == size, "recv into the heap");
  }
  cell_filled(o, c, key, from_pipe ? "after read" : "after recv");
}

static void read_file(struct owner *o, struct cell *a, struct cell *b, const struct tools *t) {
  uint64_t word = pick(o, FILE_WORDS - 65536);
  if (a == b || a->size % 8 != 0 || a->size + b->size > 65536) return;
  struct iovec iov[2] = {{a->p, a->size}, {b->p, b->size}};
  cell_begin(a);
  cell_begin(b);
  ssize_t n = preadv2(t->file, iov, 2, (off_t)(word * 8), 0);
  need(n == (ssize_t)(a->size + b->size), "preadv2 into the heap");
  cell_filled(o, a, FILE_KEY + word * STRIDE, "after preadv2");
  cell_filled(o, b, FILE_KEY + (word + a->size / 8) * STRIDE, "after preadv2, second");
}

/* ---- shared objects ---- */

static void make_counter(unsigned i) {
  counters[i] = malloc(16 + i % 3 * 16);
  need(counters[i] != NULL, "malloc");
  atomic_init(counters[i], 0);
}

static void make_guarded(unsigned i) {
  guarded[i] = malloc(sizeof *guarded[i] + i % 4 * 64);
  need(guarded[i] != NULL, "malloc");
  *guarded[i] = (struct guarded){.inverse = ~(uint64_t)0};
  pthread_mutex_init(&guarded[i]->mutex, NULL);
}

/* Among others that will be freed. They stay, and with them what they lie in. */
static void make_shared(void) {
  for (unsigned i = 0, at = 0; i < COUNTERS; i++) {
    make_counter(i);
    if (i < GUARDED) make_guarded(i);
    for (unsigned k = 0; k < 12; k++, at++)
      cell_make(&owners[0], &owners[0].cells[at], some_size(&owners[0]), 16);
  }
}

static void count(struct owner *o) {
  unsigned i = pick(o, COUNTERS);
  atomic_fetch_add(counters[i], 1);
  atomic_fetch_add(&counted[i], 1);
}

static void check_guarded(unsigned i) {
  struct guarded *g = guarded[i];
  if (g->value != guarded_truth[i] || g->inverse != ~g->value)
    lost(g, "guarded %u: %lu and %lu, not %lu", i, (unsigned long)g->value,
         (unsigned long)~g->inverse, (unsigned long)guarded_truth[i]);
}

static void guard(struct owner *o, bool hot) {
  unsigned i = pick(o, hot ? HOT : GUARDED);
  struct guarded *g = guarded[i];
  pthread_mutex_lock(&g->mutex);
  check_guarded(i);
  g->value++;
  if (hot) sched_yield(); /* with others waiting: they sleep on the futex */
  g->inverse = ~g->value;
  guarded_truth[i] = g->value;
  pthread_mutex_unlock(&g->mutex);
}

/* ---- workers ---- */

/* In turn: how full the heap is to be, in per cent, and how many passes are made then. */
static const struct {
  unsigned level, passes;
} waves[] = {{100, 0}, {12, 8}, {60, 2}, {15, 8}, {0, 1}};
enum { NWAVES = sizeof waves / sizeof waves[0] };

unsigned wave_level(void) { return waves[atomic_load(&wave) % NWAVES].level; }
static unsigned wave_passes(void) { return waves[atomic_load(&wave) % NWAVES].passes; }

static void obey(struct owner *o, unsigned percent) {
  for (unsigned i = 0; i < o->ncells && !atomic_load(&stop); i++) {
    struct cell *c = &o->cells[i];
    bool wanted = pick(o, 100) < percent;
    if (c->p != NULL && !wanted) cell_free(o, c, "before it is freed");
    if (c->p == NULL && wanted) cell_make(o, c, some_size(o), 16);
  }
}

static void empty_parcels(struct owner *o) {
  for (unsigned i = 0; i < PARCELS; i++) {
    if (atomic_exchange(&parcels[i].lock, 1) != 0) continue;
    if (parcels[i].cell.p != NULL) cell_free(o, &parcels[i].cell, "a parcel");
    atomic_store(&parcels[i].lock, 0);
  }
}

int hold(const void *p, size_t size) {
  for (;; sched_yield()) {
    pthread_rwlock_wrlock(&accidental);
    int err = pin(p, size, PIN_LONG);
    pthread_rwlock_unlock(&accidental);
    if (err != EBUSY) return err;
  }
}

void let_go(const void *p, size_t size) {
  int err = unpin(p, size, PIN_LONG);
  if (err != 0) lost(p, "unpin: %s", strerror(err));
}

/* For as long as it takes to change some others, and of meshed memory too. */
static void hold_and_use(struct owner *o, struct cell *c) {
  int err = hold(c->p, c->size);
  if (err != 0) lost(c->p, "pin: %s", strerror(err));
  for (unsigned i = pick(o, 8); i > 0; i--) {
    touch(c);
    struct cell *other = &o->cells[pick(o, o->ncells)];
    if (other->p != NULL) cell_rewrite(o, other);
    cell_check(o, c, "pinned for long");
  }
  let_go(c->p, c->size);
  atomic_fetch_add_explicit(&holds, 1, memory_order_relaxed);
}

static void use(struct owner *o, struct cell *c, const struct tools *t, unsigned percent) {
  cell_check(o, c, "in use");
  switch (pick(o, 17)) {
  case 0:
    cell_rewrite(o, c);
    break;
  case 1:
    receive(o, c, t, true);
    break;
  case 2:
    receive(o, c, t, false);
    break;
  case 3: {
    struct cell *other = &o->cells[pick(o, o->ncells)];
    if (other->p != NULL) read_file(o, c, other, t);
    break;
  }
  case 4:
    resize(o, c);
    break;
  case 5:
    pass_on(o, c);
    break;
  case 6:
    if (pick(o, 100) >= percent) cell_free(o, c, "before it is freed");
    break;
  case 7:
    guard(o, false);
    break;
  case 8:
    if (pick(o, 8) == 0) guard(o, true);
    break;
  case 9:
  case 10:
    count(o);
    break;
  case 11:
    if (pick(o, HOLD_ONE_IN) == 0) hold_and_use(o, c);
    break;
  default:
    touch(c);
    break;
  }
}

static void *run_worker(void *arg) {
  struct owner *o = arg;
  struct tools tools;
  unsigned seen = (unsigned)-1;
  open_tools(&tools);
  while (!atomic_load(&stop)) {
    unsigned now = atomic_load(&wave), percent = wave_level();
    if (now != seen) {
      obey(o, percent);
      if (percent == 0) empty_parcels(o);
      atomic_fetch_add(&obeyed, 1);
      seen = now;
    }
    struct cell *c = &o->cells[pick(o, o->ncells)];
    if (c->p != NULL)
      use(o, c, &tools, percent);
    else if (pick(o, 1000) < percent)
      cell_make(o, c, some_size(o), 16);
  }
  return NULL;
}

/* ---- compaction ---- */

/* More than the one mapping by which compaction itself looks at that memory; private ones are of
 * the time before a fork. */
static bool is_meshed(void) {
  char line[512];
  unsigned found = 0;
  FILE *f = fopen("/proc/self/maps", "re");
  need(f != NULL, "fopen");
  while (found < 2 && fgets(line, sizeof line, f) != NULL)
    found += strstr(line, " rw-s ") != NULL && strstr(line, "/memfd:quire") != NULL;
  fclose(f);
  return found == 2;
}

static bool all_obey(void) { return atomic_load(&obeyed) >= WORKERS * (atomic_load(&wave) + 1); }

/* Hosts are never guests again: of a heap that is meshed while it is full nothing can be gained. */
static void *run_compactor(void *arg) {
  (void)arg;
  while (!atomic_load(&stop)) {
    if (wave_passes() == 0 || (wave_level() < 20 && !all_obey())) {
      sched_yield();
      continue;
    }
    size_t bytes = compact();
    atomic_fetch_add(&passes, 1);
    atomic_fetch_add(&gained, bytes);
    if (bytes > 0) atomic_fetch_add(&gains, 1);
    if (atomic_load(&passes) % 8 == 0 && is_meshed()) atomic_fetch_add(&meshed_seen, 1);
  }
  return NULL;
}

/* ---- forks ---- */

static unsigned cells_left_out;

/* Objects of which this child may not expect anything: they stay busy. */
static void leave_out(void) {
  child_knows_lent(atomic_load(&forks_begun));
  cells_left_out = 0;
  for (unsigned i = 0; i < sizeof cells / sizeof cells[0]; i++) {
    struct cell *c = &cells[i];
    if (c->p == NULL || !child_leaves_out(c->p, c->size)) continue;
    atomic_store(&c->busy, 1);
    cells_left_out++;
  }
  for (unsigned i = 0; i < PARCELS; i++) {
    const struct cell *c = &parcels[i].cell;
    if (c->p != NULL && child_leaves_out(c->p, c->size)) atomic_store(&parcels[i].lock, 1);
  }
}

static pid_t fork_numbered(void) {
  pthread_rwlock_wrlock(&accidental);
  uint64_t number = atomic_fetch_add(&forks_begun, 1) + 1;
  pid_t pid = fork();
  pthread_rwlock_unlock(&accidental);
  if (pid != 0) atomic_store(&forks_done, number);
  return pid;
}

/* What threads were in the midst of when the child was made; it has no thread to go on with it. */
static void check_snapshot(const char *when) {
  unsigned busy = 0;
  for (unsigned i = 0; i < sizeof cells / sizeof cells[0]; i++) {
    if (atomic_load(&cells[i].busy))
      busy++;
    else if (cells[i].p != NULL)
      check(&cells[i], when);
  }
  for (unsigned i = 0; i < PARCELS; i++)
    if (!parcels[i].lock && parcels[i].cell.p != NULL) check(&parcels[i].cell, when);
  if (busy > 2 * MANY_THREADS + 64 + cells_left_out)
    lost(NULL, "%s: %u cells are busy", when, busy);
  for (unsigned i = 0; i < COUNTERS; i++) {
    if (child_leaves_out(counters[i], sizeof *counters[i])) continue;
    uint64_t here = *counters[i], truth = counted[i];
    if (here < truth || here > truth + MANY_THREADS)
      lost(counters[i], "%s: counter %u is %lu, not %lu", when, i, (unsigned long)here,
           (unsigned long)truth);
  }
  for (unsigned i = 0; i < GUARDED; i++) {
    if (child_leaves_out(guarded[i], sizeof *guarded[i])) continue;
    if (pthread_mutex_trylock(&guarded[i]->mutex) != 0) continue;
    check_guarded(i);
    pthread_mutex_unlock(&guarded[i]->mutex);
  }
}

static void change_own(unsigned modulus) {
  struct owner *o = &owners[0];
  for (unsigned i = 0; i < sizeof cells / sizeof cells[0]; i++) {
    struct cell *c = &cells[i];
    if (atomic_load(&c->busy)) continue;
    if (c->p == NULL) {
      if (i % 32 == 0) cell_make(o, c, some_size(o), 16);
    } else if (i % modulus == 0) {
      cell_free(o, c, "freed by a child");
    } else if (i % 3 == 0) {
      touch(c);
    } else if (i % 11 == 0) {
      cell_rewrite(o, c);
    }
  }
}

static void expect_child(pid_t child, const char *what) {
  int status;
  need(child > 0, "fork");
  need(waitpid(child, &status, 0) == child, "waitpid");
  if (status != 0) lost(NULL, "%s has ended with status %#x", what, (unsigned)status);
}

static void child_compacts(bool forks_again) {
  change_own(2);
  (void)compact();
  check_snapshot("after its own compaction");
  if (forks_again) {
    pid_t grandchild = fork();
    if (grandchild == 0) {
      check_snapshot("a grandchild");
      change_own(3);
      check_snapshot("a grandchild, after changes");
      _exit(0);
    }
    change_own(5);
    expect_child(grandchild, "a grandchild");
  }
  change_own(3);
  (void)compact();
  change_own(7);
  check_snapshot("after its second compaction");
}

static void run_child(unsigned round) {
  uint64_t began = atomic_load(progress);
  in_child = true;
  leave_out();
  check_snapshot("at first");
  while (atomic_load(progress) - began < CHILD_WAIT && !atomic_load(parent_stops)) sched_yield();
  check_snapshot("after its parent went on");
  change_own(5);
  check_snapshot("after its own changes");
  if (round % 4 == 0) child_compacts(round % 8 == 0);
  _exit(0);
}

static void *run_forker(void *arg) {
  (void)arg;
  for (unsigned round = 0; !atomic_load(&stop); round++) {
    uint64_t pass = atomic_load(&passes);
    pid_t child = fork_numbered();
    if (child == 0) run_child(round);
    /* Another, that does nothing, while the first one looks. */
    pid_t idle = round % 4 == 0 ? fork_numbered() : 0;
    if (idle == 0 && round % 4 == 0) _exit(0);
    if (round % 4 == 0) expect_child(idle, "an idle child");
    expect_child(child, "a child");
    atomic_fetch_add(&forks, 1);
    if (round % 4 == 0) atomic_fetch_add(&child_compactions, 1);
    /* Compaction must get somewhere between two forks. */
    while (atomic_load(&passes) - pass < 2 + round % 4 && !atomic_load(&stop)) sched_yield();
  }
  return NULL;
}

/* ---- main ---- */

static double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void nap(void) {
  struct timespec t = {0, 20000000};
  nanosleep(&t, NULL);
}

static void run_waves(double seconds) {
  double end = now_s() + seconds;
  while (now_s() < end) {
    while (!all_obey() && now_s() < end) nap();
    uint64_t pass = atomic_load(&passes);
    while (atomic_load(&passes) - pass < wave_passes() && now_s() < end) nap();
    atomic_fetch_add(&wave, 1);
  }
  atomic_store(parent_stops, 1);
  atomic_store(&stop, true);
}

static void give_cells(void) {
  struct cell *next = cells;
  for (unsigned i = 0; i < OWNERS; i++) {
    owners[i].cells = next;
    owners[i].ncells = i < WORKERS ? WORKER_CELLS : IO_CELLS;
    owners[i].random = i + 1;
    next += owners[i].ncells;
  }
}

static void check_at_end(void) {
  uint64_t busy = 0;
  for (unsigned i = 0; i < sizeof cells / sizeof cells[0]; i++) {
    busy += cells[i].busy;
    if (cells[i].p != NULL) check(&cells[i], "at the end");
  }
  if (busy != 0) lost(NULL, "%lu cells are busy at the end", (unsigned long)busy);
  for (unsigned i = 0; i < COUNTERS; i++)
    if (*counters[i] != counted[i])
      lost(counters[i], "counter %u is %lu, not %lu", i, (unsigned long)*counters[i],
           (unsigned long)counted[i]);
  for (unsigned i = 0; i < GUARDED; i++) check_guarded(i);
}

int main(int argc, char **argv) {
  pthread_t threads[OWNERS], compactor, forker;
  _Atomic unsigned ready = 0;
  if (argc != 3) return 2;
  directory = argv[2];
  compact = (size_t(*)(void))dlsym(RTLD_DEFAULT, "quire_compact");
  if (compact == NULL) lost(NULL, "no quire_compact: the library is not loaded");
  pin = (int (*)(const void *, size_t, int))dlsym(RTLD_DEFAULT, "quire_pin");
  unpin = (int (*)(const void *, size_t, int))dlsym(RTLD_DEFAULT, "quire_unpin");
  need(pin != NULL && unpin != NULL, "dlsym");
  progress = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  need(progress != MAP_FAILED, "mmap");
  parent_stops = progress + 1;
  pthread_rwlockattr_t kind;
  pthread_rwlockattr_init(&kind);
  pthread_rwlockattr_setkind_np(&kind, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
  need(pthread_rwlock_init(&accidental, &kind) == 0, "pthread_rwlock_init");
  give_cells();
  make_file();
  pthread_create(&threads[RING], NULL, run_ring, &ready);
  while (atomic_load(&ready) == 0) sched_yield();
  make_shared();
  for (uintptr_t i = 0; i < WORKERS; i++) pthread_create(&threads[i], NULL, run_worker, &owners[i]);
  pthread_create(&threads[RECEIVER], NULL, run_receiver, NULL);
  pthread_create(&threads[DIRECT], NULL, run_direct, NULL);
  pthread_create(&compactor, NULL, run_compactor, NULL);
  pthread_create(&forker, NULL, run_forker, NULL);
  run_waves(atof(argv[1]));
  for (unsigned i = 0; i < OWNERS; i++) pthread_join(threads[i], NULL);
  pthread_join(compactor, NULL);
  pthread_join(forker, NULL);
  check_at_end();
  uint64_t checked = 0;
  for (unsigned i = 0; i < OWNERS; i++) checked += owners[i].checked;
  printf("%lu objects checked, %lu changes, %u waves; %lu passes, %lu with gain, %lu MiB in all; "
         "%lu forks, %lu children compacted, %lu pins\n",
         (unsigned long)checked, (unsigned long)*progress, atomic_load(&wave),
         (unsigned long)passes, (unsigned long)gains, (unsigned long)(gained >> 20),
         (unsigned long)forks, (unsigned long)child_compactions, (unsigned long)holds);
  if (no_ring != NULL) printf("SKIP io_uring: %s\n", no_ring);
  if (no_direct != NULL) printf("SKIP O_DIRECT: %s\n", no_direct);
  if (gains == 0) lost(NULL, "compaction has gained nothing");
  const char *why_not = why_no_mesh();
  if (why_not != NULL)
    printf("SKIP meshing: %s\n", why_not);
  else if (meshed_seen == 0)
    lost(NULL, "compaction has meshed nothing, though it may");
  return 0;
}
