/* What the parts of the torture program share: cells, the truth about what lies in the heap.
 *
 * A cell is kept outside the heap and says where an object is and what must be in it. A cell
 * belongs to one thread. While its thread changes the object, or has the kernel change it, the cell
 * is busy; all others must hold what their cells say, in this process and in any snapshot of it. */
#ifndef QUIRE_TESTS_COMPACT_TORTURE_H
#define QUIRE_TESTS_COMPACT_TORTURE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  WORKERS = 4,
  WORKER_CELLS = 160000,
  IO_CELLS = 8000,
  RECEIVER = WORKERS, /* the threads after the workers have cells too */
  RING,
  DIRECT,
  OWNERS,
  FILE_WORDS = 1 << 20, /* of the file of known contents */
};

struct cell {
  unsigned char *p;
  uint32_t size;
  uint32_t alignment; /* as it was asked for */
  _Atomic uint32_t busy;
  uint64_t key, version; /* what it holds */
};

struct owner {
  struct cell *cells;
  unsigned ncells;
  uint64_t random;
  _Atomic uint64_t checked; /* objects that were compared with their cells */
};

extern struct owner owners[OWNERS];
extern const char *directory;       /* for files */
extern char file_path[];            /* of the one of known contents */
extern _Atomic bool stop;           /* all threads are to end */
extern _Atomic unsigned wave;       /* counts up */
extern const char *_Atomic no_ring; /* why a part of the program does not run */
extern const char *_Atomic no_direct;

/* Word i of an object is word_of(key, i), plus version for the first: one store changes it. */
#define STRIDE 0x9e3779b97f4a7c15ull
#define FILE_KEY 0x51a7e5eed0f11e00ull
uint64_t word_of(uint64_t key, uint64_t i);
void fill(void *p, size_t size, uint64_t key, uint64_t version);

unsigned wave_level(void); /* per cent of the cells that are to be filled; 0: all are freed */

uint64_t next_random(uint64_t *state);
unsigned pick(struct owner *o, unsigned below);

/* Prints a line and what the kernel has mapped at p, and aborts. */
__attribute__((noreturn, format(printf, 2, 3))) void lost(const void *p, const char *format, ...);

void cell_check(struct owner *o, struct cell *c, const char *when);
void cell_make(struct owner *o, struct cell *c, unsigned size, unsigned alignment);
void cell_free(struct owner *o, struct cell *c, const char *when);
void cell_rewrite(struct owner *o, struct cell *c);
/* The kernel fills it from word `at` of the file on, or has done so. */
void cell_begin(struct cell *c);
void cell_filled(struct owner *o, struct cell *c, uint64_t key, const char *when);

/* Direct I/O into memory that was not asked for with an alignment for it, and lies well by
 * accident, may be lost where that memory is meshed and a fork, or a pin for long, comes before the
 * data. So they exclude each other here. */
extern pthread_rwlock_t accidental;

/* Pins for long; retried while it is being moved. 0 or an error number. */
int hold(const void *p, size_t size);
void let_go(const void *p, size_t size);

/* Pages that the kernel has pinned are copied for a child at some moment of the fork, and stores to
 * them don't wait for its end as all others do: the child may see later ones of the same thread
 * elsewhere, and not these. So a child leaves out what lies in pages that were lent to the kernel
 * while it was made. Forks are numbered by who makes them. */
extern _Atomic uint64_t forks_begun, forks_done;
void child_knows_lent(uint64_t number);            /* in the child, first */
bool child_leaves_out(const void *p, size_t size); /* in the child */

void make_file(void);

/* Threads; run_ring gets an _Atomic unsigned that it counts up when its buffers are registered. */
void *run_receiver(void *arg);
void *run_ring(void *arg);
void *run_direct(void *arg);
#endif
