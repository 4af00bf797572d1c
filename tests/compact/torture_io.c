/* Torture by the kernel: data that arrives in heap objects by system calls which began before their
 * memory was moved, or begin while it is. */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "torture.h"

enum {
  RECEIVE_MAX = 1024,
  BUFFERS = 64,
  BUFFER_SIZE = 4096,
  DEPTH = 32,
  PIPES = 8,
  UNREGISTER_WAVE = 4,
  HELD = 16, /* objects that are pinned and registered at a time */
  HELD_ROUNDS = 64,
  SCRATCH = BUFFERS * BUFFER_SIZE,
};

const char *_Atomic no_ring, *_Atomic no_direct;
char file_path[512];

static void need(bool ok, const char *what) {
  if (!ok) lost(NULL, "%s: %s", what, strerror(errno));
}

void make_file(void) {
  static uint64_t words[4096];
  snprintf(file_path, sizeof file_path, "%s/known", directory);
  int fd = open(file_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  need(fd >= 0, file_path);
  for (uint64_t at = 0; at < FILE_WORDS; at += 4096) {
    for (unsigned i = 0; i < 4096; i++) words[i] = word_of(FILE_KEY, at + i);
    need(write(fd, words, sizeof words) == sizeof words, "write the file");
  }
  need(fsync(fd) == 0, "fsync");
  close(fd);
  fd = open(file_path, O_RDONLY | O_CLOEXEC | O_DIRECT);
  unsigned char *block = aligned_alloc(512, 512);
  if (fd < 0 || pread(fd, block, 512, 512) != 512)
    atomic_store(&no_direct, "the file system has no O_DIRECT of 512 bytes");
  if (fd >= 0) close(fd);
  free(block);
}

static uint64_t file_key(uint64_t word) { return FILE_KEY + word * STRIDE; }

static bool lies_well(const struct cell *c, unsigned alignment, bool by_accident) {
  return by_accident ? (uintptr_t)c->p % alignment == 0 : c->alignment >= alignment;
}

/* A small object in a cell taken at random, made if there is none. Freed now and then. by_accident:
 * one that lies so without having been asked for will do. */
static struct cell *some_cell(struct owner *o, unsigned size, unsigned alignment,
                              bool by_accident) {
  struct cell *c;
  if (wave_level() == 0 && pick(o, 64) == 0)
    for (c = o->cells; c < o->cells + o->ncells; c++)
      if (c->p != NULL && !atomic_load(&c->busy)) cell_free(o, c, "at low tide");
  do c = &o->cells[pick(o, o->ncells)];
  while (atomic_load_explicit(&c->busy, memory_order_relaxed));
  if (c->p != NULL) {
    cell_check(o, c, "before it is read into");
    if (alignment == 16 ? pick(o, 4) != 0 : lies_well(c, alignment, by_accident) && c->size == size)
      return c;
    cell_free(o, c, "to make another");
  }
  cell_make(o, c, size, by_accident ? 16 : alignment);
  return c;
}

/* ---- pages lent to the kernel ---- */

enum { LENT = 128 }; /* by a thread: more than it ever lends at a time */

/* until: the last fork that they are lent for. Pins end a little later than what they are for, so
 * that is the next one after it; until then the entry isn't used again while a fork is made. */
struct lent {
  _Atomic uintptr_t from, to; /* pages */
  _Atomic uint64_t until;
};

_Atomic uint64_t forks_begun, forks_done;
static struct lent lent[OWNERS][LENT];
static unsigned next_lent[OWNERS];
static struct { uintptr_t from, to; } left_out[OWNERS * LENT];
static unsigned nleft_out;

static struct lent *lend(const struct owner *o, const void *p, size_t size) {
  unsigned who = (unsigned)(o - owners);
  struct lent *l = &lent[who][next_lent[who]++ % LENT];
  while (atomic_load(&forks_done) != atomic_load(&forks_begun) &&
         atomic_load(&l->until) >= atomic_load(&forks_begun))
    sched_yield();
  atomic_store(&l->from, (uintptr_t)p & ~(uintptr_t)4095);
  atomic_store(&l->to, ((uintptr_t)p + size + 4095) & ~(uintptr_t)4095);
  atomic_store(&l->until, UINT64_MAX);
  return l;
}

static void lent_back(struct lent *l) { atomic_store(&l->until, atomic_load(&forks_begun) + 1); }

void child_knows_lent(uint64_t number) {
  nleft_out = 0;
  for (unsigned i = 0; i < OWNERS * LENT; i++) {
    const struct lent *l = &lent[i / LENT][i % LENT];
    if (atomic_load(&l->until) < number) continue;
    left_out[nleft_out].from = atomic_load(&l->from);
    left_out[nleft_out++].to = atomic_load(&l->to);
  }
}

bool child_leaves_out(const void *p, size_t size) {
  for (unsigned i = 0; i < nleft_out; i++)
    if ((uintptr_t)p < left_out[i].to && left_out[i].from < (uintptr_t)p + size) return true;
  return false;
}

/* ---- recv, while another thread sends piece by piece ---- */

static struct {
  int ends[2];
  _Atomic uint32_t asked, sent;
  uint64_t key;
  uint32_t size;
} line;

static void *run_feeder(void *arg) {
  uint64_t random = (uintptr_t)arg;
  unsigned char bytes[RECEIVE_MAX];
  while (true) {
    uint32_t asked = atomic_load(&line.asked);
    if (asked == atomic_load(&line.sent)) {
      if (atomic_load(&stop)) return NULL;
      sched_yield();
      continue;
    }
    fill(bytes, line.size, line.key, 0);
    for (uint32_t at = 0; at < line.size;) {
      for (unsigned n = next_random(&random) % 8; n > 0; n--) sched_yield();
      uint32_t n = 1 + (uint32_t)(next_random(&random) % (line.size - at));
      need(send(line.ends[1], bytes + at, n, 0) == (ssize_t)n, "send");
      at += n;
    }
    atomic_store(&line.sent, asked);
  }
}

void *run_receiver(void *arg) {
  struct owner *o = &owners[RECEIVER];
  (void)arg;
  need(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, line.ends) == 0, "socketpair");
  pthread_t feeder;
  need(pthread_create(&feeder, NULL, run_feeder, (void *)(uintptr_t)77) == 0, "pthread_create");
  while (!atomic_load(&stop)) {
    struct cell *c = some_cell(o, 16 + pick(o, RECEIVE_MAX - 16), 16, false);
    uint32_t size = c->size < RECEIVE_MAX ? c->size : RECEIVE_MAX;
    uint64_t key = next_random(&o->random);
    if (size != c->size) continue;
    line.key = key;
    line.size = size;
    cell_begin(c);
    atomic_fetch_add(&line.asked, 1);
    if (key & 1) {
      need(recv(line.ends[0], c->p, size, MSG_WAITALL) == (ssize_t)size, "recv into the heap");
    } else {
      for (uint32_t at = 0; at < size;) {
        ssize_t n = read(line.ends[0], c->p + at, size - at);
        need(n > 0, "read from a socket into the heap");
        at += (uint32_t)n;
      }
    }
    while (atomic_load(&line.sent) != atomic_load(&line.asked)) sched_yield();
    cell_filled(o, c, key, "after recv");
  }
  pthread_join(feeder, NULL);
  return NULL;
}

/* ---- io_uring ---- */

static struct {
  struct io_uring ring;
  int known, direct, scratch;
  int pipes[PIPES][2];
  unsigned char *buffers[BUFFERS];
  bool registered;
} ring;

/* What a completion is for. */
struct request {
  struct cell *cell;
  uint64_t key;
  int pipe; /* 1 + its number; 0: the file */
  struct lent *lent;
};

static void register_buffers(void) {
  struct iovec iov[BUFFERS];
  for (unsigned i = 0; i < BUFFERS; i++) {
    ring.buffers[i] = aligned_alloc(BUFFER_SIZE, BUFFER_SIZE);
    need(ring.buffers[i] != NULL, "aligned_alloc");
    memset(ring.buffers[i], 0, BUFFER_SIZE);
    iov[i] = (struct iovec){ring.buffers[i], BUFFER_SIZE};
  }
  int err = io_uring_register_buffers(&ring.ring, iov, BUFFERS);
  if (err != 0) lost(NULL, "register buffers: %s", strerror(-err));
  ring.registered = true;
}

static struct io_uring_sqe *next_sqe(void) {
  struct io_uring_sqe *sqe = io_uring_get_sqe(&ring.ring);
  need(sqe != NULL, "a full submission queue");
  return sqe;
}

static int wait_one(void **data) {
  struct io_uring_cqe *cqe;
  int err = io_uring_submit(&ring.ring);
  if (err < 0) lost(NULL, "io_uring_submit: %s", strerror(-err));
  do err = io_uring_wait_cqe(&ring.ring, &cqe);
  while (err == -EINTR);
  if (err != 0) lost(NULL, "io_uring_wait_cqe: %s", strerror(-err));
  *data = io_uring_cqe_get_data(cqe);
  int result = cqe->res;
  io_uring_cqe_seen(&ring.ring, cqe);
  return result;
}

static void compare(const unsigned char *p, uint64_t key, const char *when) {
  for (unsigned i = 0; i < BUFFER_SIZE / 8; i++) {
    uint64_t got;
    memcpy(&got, p + i * 8, 8);
    if (got != word_of(key, i))
      lost(p, "%s: word %u is %016lx, not %016lx", when, i, got, word_of(key, i));
  }
  atomic_fetch_add(&owners[RING].checked, 1);
}

/* The file into a registered buffer; what the program stores there, into another file. */
static void use_buffer(struct owner *o) {
  unsigned i = pick(o, BUFFERS);
  uint64_t word = pick(o, FILE_WORDS - BUFFER_SIZE / 8), key = next_random(&o->random);
  static unsigned char back[BUFFER_SIZE];
  void *data;
  struct io_uring_sqe *sqe = next_sqe();
  io_uring_prep_read_fixed(sqe, ring.known, ring.buffers[i], BUFFER_SIZE, word * 8, (int)i);
  io_uring_sqe_set_data(sqe, NULL);
  int n = wait_one(&data);
  if (n != BUFFER_SIZE) lost(ring.buffers[i], "read into a registered buffer: %d", n);
  compare(ring.buffers[i], file_key(word), "a registered buffer read into");
  fill(ring.buffers[i], BUFFER_SIZE, key, 0);
  sqe = next_sqe();
  io_uring_prep_write_fixed(sqe, ring.scratch, ring.buffers[i], BUFFER_SIZE, i * BUFFER_SIZE,
                            (int)i);
  io_uring_sqe_set_data(sqe, NULL);
  n = wait_one(&data);
  if (n != BUFFER_SIZE) lost(ring.buffers[i], "write from a registered buffer: %d", n);
  need(pread(ring.scratch, back, BUFFER_SIZE, i * BUFFER_SIZE) == BUFFER_SIZE, "pread");
  compare(back, key, "a file written from a registered buffer");
  compare(ring.buffers[i], key, "a registered buffer stored to");
}

static void unregister_buffers(void) {
  int err = io_uring_unregister_buffers(&ring.ring);
  if (err != 0) lost(NULL, "unregister buffers: %s", strerror(-err));
  for (unsigned i = 0; i < BUFFERS; i++) free(ring.buffers[i]);
  ring.registered = false;
}

static void prepare(struct owner *o, struct request *r, int *empty_pipe, bool by_accident) {
  uint64_t word = pick(o, FILE_WORDS - 65536);
  bool direct = atomic_load(&no_direct) == NULL && pick(o, 4) == 0;
  *r = (struct request){.key = file_key(word)};
  if (direct) {
    word &= ~(uint64_t)511;
    r->key = file_key(word);
    unsigned size = pick(o, 2) ? 512 : 4096;
    r->cell = some_cell(o, size, 512, by_accident);
  } else {
    r->cell = some_cell(o, 16 + pick(o, 1008), 16, false);
  }
  struct io_uring_sqe *sqe = next_sqe();
  cell_begin(r->cell);
  if (direct) r->lent = lend(o, r->cell->p, r->cell->size);
  if (!direct && *empty_pipe < PIPES) {
    r->pipe = 1 + (*empty_pipe)++;
    io_uring_prep_read(sqe, ring.pipes[r->pipe - 1][0], r->cell->p, r->cell->size, 0);
  } else {
    io_uring_prep_read(sqe, direct ? ring.direct : ring.known, r->cell->p, r->cell->size, word * 8);
  }
  io_uring_sqe_set_data(sqe, r);
}

/* Reads of pipes are in flight for as long as the others take. */
static void use_objects(struct owner *o) {
  struct request requests[DEPTH], *r;
  static unsigned char bytes[1 << 16];
  int used_pipes = 0;
  void *data;
  bool by_accident = pick(o, 2) == 0;
  if (by_accident) pthread_rwlock_rdlock(&accidental);
  for (unsigned i = 0; i < DEPTH; i++) prepare(o, &requests[i], &used_pipes, by_accident);
  for (unsigned i = 0; i < DEPTH; i++) {
    if (i == DEPTH - (unsigned)used_pipes) {
      for (unsigned n = pick(o, 64); n > 0; n--) sched_yield();
      for (unsigned k = 0; k < DEPTH; k++) {
        if (requests[k].pipe == 0) continue;
        size_t size = requests[k].cell->size;
        fill(bytes, size, requests[k].key, 0);
        need(write(ring.pipes[requests[k].pipe - 1][1], bytes, size) == (ssize_t)size, "write");
      }
    }
    int n = wait_one(&data);
    r = data;
    if (n != (int)r->cell->size)
      lost(r->cell->p, "io_uring read of %u bytes: %d", r->cell->size, n);
    if (r->lent != NULL) lent_back(r->lent);
    cell_filled(o, r->cell, r->key, r->pipe ? "io_uring from a pipe" : "io_uring from a file");
  }
  if (by_accident) pthread_rwlock_unlock(&accidental);
}

/* Objects wherever their memory is by now, pinned and then registered: what arrives in them is
 * seen, whatever was forked or stored between. */
static void use_pinned_objects(struct owner *o) {
  struct iovec iov[HELD];
  struct cell *cells[HELD];
  struct lent *pages[HELD];
  void *data;
  unsigned n = 0;
  while (n < HELD) {
    struct cell *c = &o->cells[pick(o, o->ncells)];
    bool twice = false;
    for (unsigned i = 0; i < n; i++) twice = twice || cells[i] == c;
    if (twice) continue;
    if (c->p == NULL) cell_make(o, c, 16 + pick(o, 1008), 16);
    cell_check(o, c, "before it is pinned");
    need(hold(c->p, c->size) == 0, "pin");
    cells[n] = c;
    pages[n] = lend(o, c->p, c->size);
    iov[n++] = (struct iovec){c->p, c->size};
  }
  int err = io_uring_register_buffers(&ring.ring, iov, HELD);
  if (err != 0) lost(NULL, "register pinned objects: %s", strerror(-err));
  for (unsigned round = 0; round < HELD_ROUNDS; round++) {
    unsigned i = pick(o, HELD);
    uint64_t word = pick(o, FILE_WORDS - 65536);
    struct cell *c = cells[i];
    cell_rewrite(o, c);
    for (unsigned k = pick(o, 32); k > 0; k--) sched_yield(); /* forks, compaction */
    cell_check(o, c, "registered");
    struct io_uring_sqe *sqe = next_sqe();
    cell_begin(c);
    io_uring_prep_read_fixed(sqe, ring.known, c->p, c->size, word * 8, (int)i);
    io_uring_sqe_set_data(sqe, NULL);
    int got = wait_one(&data);
    if (got != (int)c->size) lost(c->p, "read into a pinned object: %d", got);
    cell_filled(o, c, file_key(word), "a pinned object read into");
  }
  err = io_uring_unregister_buffers(&ring.ring);
  if (err != 0) lost(NULL, "unregister pinned objects: %s", strerror(-err));
  for (unsigned i = 0; i < HELD; i++) {
    lent_back(pages[i]);
    let_go(cells[i]->p, cells[i]->size);
  }
}

void *run_ring(void *arg) {
  struct owner *o = &owners[RING];
  char path[600];
  _Atomic unsigned *ready = arg;
  int err = io_uring_queue_init(DEPTH * 2, &ring.ring, 0);
  if (err != 0) {
    atomic_store(&no_ring, "io_uring is refused");
    atomic_fetch_add(ready, 1);
    return NULL;
  }
  io_uring_ring_dontfork(&ring.ring);
  snprintf(path, sizeof path, "%s/scratch", directory);
  ring.known = open(file_path, O_RDONLY | O_CLOEXEC);
  ring.direct = open(file_path, O_RDONLY | O_CLOEXEC | O_DIRECT);
  ring.scratch = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  need(ring.known >= 0 && ring.scratch >= 0, "open");
  for (unsigned i = 0; i < PIPES; i++) need(pipe2(ring.pipes[i], O_CLOEXEC) == 0, "pipe");
  register_buffers(); /* before the heap grows sparse around them */
  atomic_fetch_add(ready, 1);
  while (!atomic_load(&stop)) {
    if (ring.registered) use_buffer(o);
    if (ring.registered && atomic_load(&wave) >= UNREGISTER_WAVE) unregister_buffers();
    use_objects(o);
    if (!ring.registered && pick(o, 16) == 0) use_pinned_objects(o);
  }
  if (ring.registered) unregister_buffers();
  io_uring_queue_exit(&ring.ring);
  return NULL;
}

/* ---- O_DIRECT ---- */

void *run_direct(void *arg) {
  struct owner *o = &owners[DIRECT];
  static const unsigned sizes[] = {512, 1024, 2048, 4096, 16384};
  (void)arg;
  if (atomic_load(&no_direct) != NULL) return NULL;
  int fd = open(file_path, O_RDONLY | O_CLOEXEC | O_DIRECT);
  need(fd >= 0, "open with O_DIRECT");
  while (!atomic_load(&stop)) {
    unsigned size = sizes[pick(o, 5)];
    uint64_t word = pick(o, FILE_WORDS - 65536) & ~511u;
    bool by_accident = pick(o, 2) == 0;
    if (by_accident) pthread_rwlock_rdlock(&accidental);
    struct cell *c = some_cell(o, size, 512, by_accident);
    cell_begin(c);
    struct lent *pages = lend(o, c->p, size);
    ssize_t n = pread(fd, c->p, size, (off_t)(word * 8));
    lent_back(pages);
    if (by_accident) pthread_rwlock_unlock(&accidental);
    if (n != (ssize_t)size) lost(c->p, "O_DIRECT read of %u: %zd %s", size, n, strerror(errno));
    cell_filled(o, c, file_key(word), "O_DIRECT");
  }
  return NULL;
}
