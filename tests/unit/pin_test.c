/* Pins of allocated memory by quire.h, and failed memory, on the real kernel and heap. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <linux/userfaultfd.h>

#if QUIRE_URING
#include <liburing.h>
#endif

#include "alloc/compaction.h"
#include "arch/sys.h"
#include "page/folio.h"
#include "page/hold.h"
#include "page/poison.h"
#include "page/zone.h"
#include "quire.h"
#include "slab/bin.h"
#include "slab/pin.h"
#include "tests/unit/check.h"
#include "tests/unit/child.h"

static bool is_pinned(const void *p) {
  struct quire_description d;
  quire_describe(p, &d);
  return d.pinned;
}

static unsigned flags_at(const void *p) { return memdesc_flags(memmap_get(arena_pfn(p))); }

static const struct owner_ops *ops_of(const void *p, void **owner) {
  *owner = memdesc_owner(memmap_get(arena_pfn(p)));
  return owner_ops_of(*owner);
}

static enum owner_verdict isolate(const void *p) {
  void *owner;
  const struct owner_ops *ops = ops_of(p, &owner);
  frames_lock_discard();
  enum owner_verdict verdict = ops->isolate(owner, arena_pfn(p));
  if (verdict == OWNER_DONE) ops->put_back(owner);
  frames_unlock_discard();
  return verdict;
}

static void objects_are_pinned_with_their_slab(void) {
  char *p = quire_malloc(100), *q = quire_malloc(100);
  CU_ASSERT_FALSE(is_pinned(p));
  CU_ASSERT_EQUAL(quire_pin(p + 10, 50, QUIRE_PIN_LONG), 0);
  CU_ASSERT_EQUAL(quire_pin(p + 10, 50, QUIRE_PIN_LONG), 0);
  CU_ASSERT_TRUE(is_pinned(p));
  CU_ASSERT_EQUAL(flags_at(p), MEMDESC_PINNED);
  CU_ASSERT_EQUAL(isolate(p), OWNER_PINNED);
  CU_ASSERT_EQUAL(pin_frames(), size_classes[memdesc_class(memmap_get(arena_pfn(p)))].nframes);
  CU_ASSERT_EQUAL(quire_unpin(p + 10, 50, QUIRE_PIN_LONG), 0);
  CU_ASSERT_TRUE(is_pinned(p));
  CU_ASSERT_EQUAL(quire_unpin(p + 10, 50, QUIRE_PIN_LONG), 0);
  CU_ASSERT_FALSE(is_pinned(p));
  CU_ASSERT_EQUAL(flags_at(p), 0);
  CU_ASSERT_EQUAL(pin_frames(), 0);
  CU_ASSERT_EQUAL(isolate(p), OWNER_DONE);
  quire_free(p);
  quire_free(q);
}

static void folios_are_pinned(void) {
  char *p = quire_malloc(3 << 20);
  CU_ASSERT_EQUAL(quire_pin(p + 5000, 1 << 20, QUIRE_PIN_TRANSIENT), 0);
  CU_ASSERT_TRUE(is_pinned(p));
  CU_ASSERT_TRUE(is_pinned(p + (3 << 20) - 1));
  CU_ASSERT_EQUAL(isolate(p), OWNER_PINNED);
  CU_ASSERT_EQUAL(quire_unpin(p + 5000, 1 << 20, QUIRE_PIN_TRANSIENT), 0);
  CU_ASSERT_FALSE(is_pinned(p));
  CU_ASSERT_EQUAL(isolate(p), OWNER_DONE);
  quire_free(p);
}

static void only_what_was_pinned_is_unpinned(void) {
  char *p = quire_malloc(1000);
  CU_ASSERT_EQUAL(quire_unpin(p, 1000, QUIRE_PIN_LONG), EINVAL);
  CU_ASSERT_EQUAL(quire_pin(p, 1000, QUIRE_PIN_LONG), 0);
  CU_ASSERT_EQUAL(quire_unpin(p, 999, QUIRE_PIN_LONG), EINVAL);
  CU_ASSERT_EQUAL(quire_unpin(p + 1, 999, QUIRE_PIN_LONG), EINVAL);
  CU_ASSERT_EQUAL(quire_unpin(p, 1000, QUIRE_PIN_TRANSIENT), EINVAL);
  CU_ASSERT_TRUE(is_pinned(p));
  CU_ASSERT_EQUAL(quire_unpin(p, 1000, QUIRE_PIN_LONG), 0);
  CU_ASSERT_EQUAL(quire_unpin(p, 1000, QUIRE_PIN_LONG), EINVAL);
  quire_free(p);
}

static void what_is_not_allocated_cannot_be_pinned(void) {
  static char foreign[100];
  char *p = quire_malloc(40000), *folio = quire_malloc(2 << 20), *gone = quire_malloc(2 << 20);
  void *slab = NULL;
  (void)ops_of(p, &slab);
  CU_ASSERT_EQUAL(quire_pin(foreign, 100, QUIRE_PIN_LONG), EINVAL);
  CU_ASSERT_EQUAL(quire_pin(NULL, 100, QUIRE_PIN_LONG), EINVAL);
  CU_ASSERT_EQUAL(quire_pin(p, 0, QUIRE_PIN_LONG), EINVAL);
  CU_ASSERT_EQUAL(quire_pin(p, SIZE_MAX, QUIRE_PIN_LONG), EINVAL);
  CU_ASSERT_EQUAL(quire_pin(p, 10, (enum quire_pin_kind)2), EINVAL);
  CU_ASSERT_EQUAL(quire_pin(p, 10, (enum quire_pin_kind) - 1), EINVAL);
  quire_free(gone);
  CU_ASSERT_EQUAL(quire_pin(gone, 10, QUIRE_PIN_LONG), EINVAL);
  /* A range that begins well and ends in nothing leaves nothing pinned. */
  CU_ASSERT_EQUAL(quire_pin(folio, (size_t)1 << 40, QUIRE_PIN_LONG), EINVAL);
  CU_ASSERT_FALSE(is_pinned(folio));
  CU_ASSERT_EQUAL(pin_frames(), 0);
  /* Nor does a slab's free slot. */
  struct slab *s = slab;
  char *free_slot = NULL;
  for (unsigned i = 0; i < s->nslots && free_slot == NULL; i++)
    if (slab_slot_is_free(s, i)) free_slot = (char *)slab_addr(s) + i * class_size(s->size_class);
  if (free_slot != NULL) CU_ASSERT_EQUAL(quire_pin(free_slot, 10, QUIRE_PIN_LONG), EINVAL);
  quire_free(p);
  quire_free(folio);
}

static void ranges_may_span_allocations(void) {
  enum { N = 64 };
  char *objects[N], *low = NULL;
  for (int i = 0; i < N; i++) objects[i] = quire_malloc(16 << 10);
  /* Two that lie behind each other in different slabs, or in one. */
  for (int i = 0; i < N && low == NULL; i++)
    for (int k = 0; k < N; k++)
      if (objects[k] == objects[i] + (16 << 10) &&
          memdesc_owner(memmap_get(arena_pfn(objects[k]))) !=
              memdesc_owner(memmap_get(arena_pfn(objects[i]))))
        low = objects[i];
  CU_ASSERT_PTR_NOT_NULL_FATAL(low);
  CU_ASSERT_EQUAL(quire_pin(low + 100, 20 << 10, QUIRE_PIN_LONG), 0);
  CU_ASSERT_TRUE(is_pinned(low));
  CU_ASSERT_TRUE(is_pinned(low + (16 << 10)));
  CU_ASSERT_EQUAL(quire_unpin(low + 100, 20 << 10, QUIRE_PIN_LONG), 0);
  CU_ASSERT_FALSE(is_pinned(low));
  CU_ASSERT_FALSE(is_pinned(low + (16 << 10)));
  for (int i = 0; i < N; i++) quire_free(objects[i]);
}

static void isolated_memory_is_busy(void) {
  char *p = quire_malloc(200), *folio = quire_malloc(2 << 20);
  char *both[] = {p, folio};
  for (int i = 0; i < 2; i++) {
    void *owner;
    const struct owner_ops *ops = ops_of(both[i], &owner);
    frames_lock_discard();
    CU_ASSERT_EQUAL(ops->isolate(owner, arena_pfn(both[i])), OWNER_DONE);
    CU_ASSERT_EQUAL(quire_pin(both[i], 100, QUIRE_PIN_TRANSIENT), EBUSY);
    ops->put_back(owner);
    frames_unlock_discard();
    CU_ASSERT_EQUAL(quire_pin(both[i], 100, QUIRE_PIN_TRANSIENT), 0);
    CU_ASSERT_EQUAL(quire_unpin(both[i], 100, QUIRE_PIN_TRANSIENT), 0);
  }
  quire_free(p);
  quire_free(folio);
}

static void a_slab_has_so_many_pins(void) {
  char *p = quire_malloc(300);
  struct slab *slab = memdesc_owner(memmap_get(arena_pfn(p)));
  CU_ASSERT_EQUAL(quire_pin(p, 1, QUIRE_PIN_LONG), 0);
  slab->pins = UINT16_MAX;
  CU_ASSERT_EQUAL(quire_pin(p, 1, QUIRE_PIN_LONG), EOVERFLOW);
  slab->pins = 1;
  CU_ASSERT_EQUAL(quire_unpin(p, 1, QUIRE_PIN_LONG), 0);
  quire_free(p);
}

static void pinned_memory_is_not_resized(void) {
  char *p = quire_malloc(4 << 20);
  strcpy(p, "contents");
  CU_ASSERT_EQUAL(quire_pin(p, 4096, QUIRE_PIN_LONG), 0);
  struct folio *folio = memdesc_owner(memmap_get(arena_pfn(p)));
  CU_ASSERT_FALSE(folio_resize(folio, folio->nframes - 100, folio->size_class));
  char *q = quire_realloc(p, 64 << 20);
  CU_ASSERT_PTR_NOT_EQUAL(q, p);
  CU_ASSERT_STRING_EQUAL(q, "contents");
  /* The old one was freed, and its pins with it. */
  CU_ASSERT_EQUAL(pin_frames(), 0);
  CU_ASSERT_EQUAL(quire_unpin(p, 4096, QUIRE_PIN_LONG), EINVAL);
  quire_free(q);
}

enum { THREADS = 3, ROUNDS = 20000 };

static void *pin_always(void *arg) {
  char *p = arg;
  for (int i = 0; i < ROUNDS; i++) {
    if (quire_pin(p, 64, QUIRE_PIN_TRANSIENT) != 0) return "not pinned";
    if (!is_pinned(p)) return "not marked";
    if (quire_unpin(p, 64, QUIRE_PIN_TRANSIENT) != 0) return "not unpinned";
  }
  return NULL;
}

static void threads_pin_one_owner(void) {
  char *slab_object = quire_malloc(64), *folio = quire_malloc(2 << 20);
  char *targets[] = {slab_object, folio};
  for (int t = 0; t < 2; t++) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, pin_always, targets[t]);
    for (int i = 0; i < THREADS; i++) {
      void *wrong;
      pthread_join(threads[i], &wrong);
      if (wrong != NULL) printf("%s\n", (const char *)wrong);
      CU_ASSERT_PTR_NULL(wrong);
    }
    CU_ASSERT_FALSE(is_pinned(targets[t]));
  }
  CU_ASSERT_EQUAL(pin_frames(), 0);
  CU_ASSERT_EQUAL(pin_cache.nlive, 0);
  quire_free(slab_object);
  quire_free(folio);
}

static char *forked;
static void unpins_and_frees(void) {
  child_check(quire_unpin(forked, 50, QUIRE_PIN_LONG) == 0);
  child_check(!is_pinned(forked));
  child_check(quire_pin(forked, 50, QUIRE_PIN_LONG) == 0);
  quire_free(forked);
}

static void children_have_pins_of_their_own(void) {
  forked = quire_malloc(100);
  CU_ASSERT_EQUAL(quire_pin(forked, 50, QUIRE_PIN_LONG), 0);
  CU_ASSERT_TRUE(child_lives(unpins_and_frees));
  CU_ASSERT_TRUE(is_pinned(forked));
  CU_ASSERT_EQUAL(quire_unpin(forked, 50, QUIRE_PIN_LONG), 0);
  quire_free(forked);
}

enum { SPARSE = 200000, PIN_ROUNDS = 3000, PASSES = 8 };
static uint32_t passes_left;

static void *compact_always(void *arg) {
  (void)arg;
  for (unsigned i = 0; i < PASSES; i++) {
    (void)compaction_now();
    (void)sub_relaxed(&passes_left, 1);
  }
  return NULL;
}

/* Where a pinned object has its memory: its own frame, or the zone's. */
static uint32_t backing_of(const void *p) {
  pfn_t pfn = arena_pfn(p);
  return zone_is_plain(pfn, 1) ? pfn.n : zone_frame_of(pfn).n + (1u << 31);
}

/* A sparse heap is compacted again and again, while its objects are pinned and unpinned. */
static void pins_hold_while_compaction_works(void) {
  static uint32_t *objects[SPARSE];
  unsigned wrong = 0, moved = 0, pinned = 0, busy = 0;
  pthread_t thread;
  for (uint32_t i = 0; i < SPARSE; i++) *(objects[i] = quire_malloc(256)) = i;
  for (uint32_t i = 0; i < SPARSE; i++)
    if (i % 10 != 0) {
      quire_free(objects[i]);
      objects[i] = NULL;
    }
  store_relaxed(&passes_left, PASSES);
  pthread_create(&thread, NULL, compact_always, NULL);
  for (uint32_t i = 0; i < PIN_ROUNDS || load_relaxed(&passes_left) != 0; i++) {
    uint32_t at = i * 7919u % (SPARSE / 10) * 10;
    enum quire_pin_kind kind = i % 2 == 0 ? QUIRE_PIN_LONG : QUIRE_PIN_TRANSIENT;
    int err = quire_pin(objects[at], 256, kind);
    if (err != 0) {
      wrong += err != EBUSY;
      busy++;
      continue;
    }
    pinned++;
    uint32_t before = backing_of(objects[at]);
    wrong += kind == QUIRE_PIN_LONG && zone_is_shared(arena_pfn(objects[at]), 1);
    for (int k = 0; k < 20; k++) sched_yield();
    moved += backing_of(objects[at]) != before;
    wrong += *objects[at] != at;
    wrong += quire_unpin(objects[at], 256, kind) != 0;
  }
  pthread_join(thread, NULL);
  printf("%u pins, %u refused; %s\n", pinned, busy, zone_state_text(zone_state()));
  CU_ASSERT_EQUAL(wrong, 0);
  CU_ASSERT_EQUAL(moved, 0);
  CU_ASSERT_TRUE(pinned > 0);
  CU_ASSERT_EQUAL(pin_frames(), 0);
  for (uint32_t i = 0; i < SPARSE; i++) {
    if (objects[i] != NULL) CU_ASSERT_EQUAL(*objects[i], i);
    quire_free(objects[i]);
  }
}

/* ---- memory that was meshed ---- */

enum { MESHED = 64 };

static uint32_t *sparse[SPARSE], *meshed[MESHED];

/* A sparse heap, and some of its objects that have their memory elsewhere; fewer than MESHED where
 * this process may not mesh. */
static unsigned begin_meshed(void) {
  unsigned n = 0;
  for (uint32_t i = 0; i < SPARSE; i++) memset(sparse[i] = quire_malloc(256), (int)i, 256);
  for (uint32_t i = 0; i < SPARSE; i++)
    if (i % 10 != 0) {
      quire_free(sparse[i]);
      sparse[i] = NULL;
    }
  (void)compaction_now();
  for (uint32_t i = 0; i < SPARSE && n < MESHED; i += 70)
    if (sparse[i] != NULL && zone_backing(arena_pfn(sparse[i])) == ZONE_GUEST)
      meshed[n++] = sparse[i];
  if (n < MESHED) unit_skip(zone_state_text(zone_state()));
  return n;
}

static void end_meshed(void) {
  unsigned wrong = 0;
  for (uint32_t i = 0; i < SPARSE; i++) {
    for (unsigned k = 0; sparse[i] != NULL && k < 256; k++)
      wrong += ((char *)sparse[i])[k] != (char)i;
    quire_free(sparse[i]);
  }
  CU_ASSERT_EQUAL(wrong, 0);
  CU_ASSERT_EQUAL(pin_frames(), 0);
}

/* The number of the page behind an address as the kernel counts them; 0 without the right to know.
 */
static uint64_t physical_page(const void *p) {
  uint64_t entry = 0;
  int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  off_t at = (off_t)((uintptr_t)p / FRAME_SIZE * sizeof entry);
  if (fd < 0 || pread(fd, &entry, sizeof entry, at) != sizeof entry) entry = 0;
  if (fd >= 0) close(fd);
  return entry >> 63 != 0 ? entry & (((uint64_t)1 << 55) - 1) : 0;
}

/* How many pages the kernel has migrated on this machine, for reasons of its own. */
static long pages_migrated(void) {
  char line[128];
  long n = 0;
  FILE *f = fopen("/proc/vmstat", "re");
  while (f != NULL && fgets(line, sizeof line, f) != NULL)
    if (sscanf(line, "pgmigrate_success %ld", &n) == 1) break;
  if (f != NULL) fclose(f);
  return n;
}

/* Compaction, stores and neighbours that are handed out: none of them gives pinned memory another
 * page. The kernel may, to what it hasn't pinned itself; then there is no telling. */
static void pages_that_are_pinned_for_long_stay(void) {
  uint64_t page[MESHED];
  static char *others[SPARSE / 10];
  unsigned moved = 0;
  long migrated = pages_migrated();
  if (begin_meshed() == MESHED && physical_page(meshed[0]) == 0)
    unit_skip("page numbers are hidden");
  for (unsigned i = 0; i < MESHED && meshed[i] != NULL; i++) {
    uint64_t before = physical_page(meshed[i]);
    int err;
    while ((err = quire_pin(meshed[i], 256, QUIRE_PIN_LONG)) == EBUSY) sched_yield();
    CU_ASSERT_EQUAL(err, 0);
    page[i] = physical_page(meshed[i]);
    if (before != 0) CU_ASSERT_NOT_EQUAL(page[i], before);
  }
  CU_ASSERT_TRUE(pin_consistent());
  for (unsigned i = 0; i < SPARSE / 10; i++) memset(others[i] = quire_malloc(256), 1, 256);
  for (uint32_t i = 0; i < SPARSE; i++)
    if (sparse[i] != NULL) memset(sparse[i], (int)i, 256);
  (void)compaction_now();
  for (unsigned i = 0; i < SPARSE / 10; i++) quire_free(others[i]);
  (void)compaction_now();
  for (unsigned i = 0; i < MESHED && meshed[i] != NULL; i++) {
    moved += physical_page(meshed[i]) != page[i];
    CU_ASSERT_EQUAL(quire_unpin(meshed[i], 256, QUIRE_PIN_LONG), 0);
    CU_ASSERT_EQUAL(quire_unpin(meshed[i], 256, QUIRE_PIN_LONG), EINVAL);
  }
  if (pages_migrated() == migrated) {
    CU_ASSERT_EQUAL(moved, 0);
  } else if (moved > 0) {
    unit_skip("the kernel migrated pages meanwhile");
  }
  end_meshed();
}

#if QUIRE_URING
static void reads_what_it_was(void) {
  for (uint32_t i = 0; i < SPARSE; i++)
    for (unsigned k = 0; sparse[i] != NULL && k < 256; k++)
      child_check(((char *)sparse[i])[k] == (char)i);
}

/* What design.md says of buffers: pinned first and registered then, a fork and stores afterwards
 * don't part the program's page from the kernel's. */
static void registered_buffers_receive_after_a_fork(void) {
  struct io_uring ring;
  struct iovec buffers[MESHED];
  char message[256];
  int ends[2];
  unsigned n = begin_meshed(), wrong = 0;
  if (n == MESHED && io_uring_queue_init(8, &ring, 0) != 0) {
    unit_skip("io_uring is refused");
    n = 0;
  }
  if (n < MESHED) {
    end_meshed();
    return;
  }
  CU_ASSERT_EQUAL_FATAL(pipe2(ends, O_CLOEXEC), 0);
  for (unsigned i = 0; i < MESHED; i++) {
    while (quire_pin(meshed[i], 256, QUIRE_PIN_LONG) == EBUSY) sched_yield();
    buffers[i] = (struct iovec){meshed[i], 256};
  }
  CU_ASSERT_EQUAL_FATAL(io_uring_register_buffers(&ring, buffers, MESHED), 0);
  CU_ASSERT_TRUE(child_lives(reads_what_it_was));
  for (uint32_t i = 0; i < SPARSE; i++)
    if (sparse[i] != NULL) memset(sparse[i], (int)i, 256);
  (void)compaction_now();
  for (unsigned i = 0; i < MESHED; i++) {
    struct io_uring_cqe *cqe;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
    memset(message, (int)i + 100, sizeof message);
    CU_ASSERT_EQUAL_FATAL(write(ends[1], message, sizeof message), (ssize_t)sizeof message);
    io_uring_prep_read_fixed(sqe, ends[0], meshed[i], 256, 0, (int)i);
    CU_ASSERT_EQUAL_FATAL(io_uring_submit(&ring), 1);
    CU_ASSERT_EQUAL_FATAL(io_uring_wait_cqe(&ring, &cqe), 0);
    CU_ASSERT_EQUAL(cqe->res, 256);
    io_uring_cqe_seen(&ring, cqe);
    wrong += memcmp(meshed[i], message, sizeof message) != 0;
  }
  CU_ASSERT_EQUAL(wrong, 0);
  for (unsigned i = 0; i < MESHED; i++)
    CU_ASSERT_EQUAL(quire_unpin(meshed[i], 256, QUIRE_PIN_LONG), 0);
  io_uring_queue_exit(&ring);
  close(ends[0]);
  close(ends[1]);
  for (uint32_t i = 0; i < SPARSE; i++)
    if (sparse[i] != NULL) memset(sparse[i], (int)i, 256);
  end_meshed();
}
#else
static void registered_buffers_receive_after_a_fork(void) { unit_skip("built without liburing"); }
#endif

/* ---- failed memory ---- */

static bool in_frame(const void *p, size_t size, pfn_t frame) {
  uintptr_t from = (uintptr_t)arena_addr(frame);
  return (uintptr_t)p < from + FRAME_SIZE && (uintptr_t)p + size > from;
}

static void slabs_with_failed_memory_hand_out_nothing(void) {
  enum { SIZE = 700, N = 400 };
  static char *objects[N], *more[4 * N];
  for (int i = 0; i < N; i++) objects[i] = quire_malloc(SIZE);
  struct slab *slab = memdesc_owner(memmap_get(arena_pfn(objects[N / 2])));
  unsigned c = slab->size_class;
  pfn_t bad = pfn_add(slab->pfn, 1), healthy = slab->pfn;
  pfn_t end = pfn_add(slab->pfn, slab->nframes);
  CU_ASSERT_EQUAL(quire_poison(arena_addr(bad)), EIO);
  CU_ASSERT_EQUAL(quire_poison(arena_addr(bad)), EIO);
  CU_ASSERT_EQUAL(slab->state, SLAB_RETIRED);
  CU_ASSERT_TRUE(bin_consistent(c));
  for (int i = 0; i < N; i++) quire_free(objects[i]);
  quire_purge(0);
  /* Nothing lives in it any more: it is gone but for the frame that failed. */
  CU_ASSERT_TRUE(bin_consistent(c));
  CU_ASSERT_EQUAL(memdesc_type(memmap_get(bad)), MEMDESC_POISON);
  CU_ASSERT_NOT_EQUAL(memdesc_type(memmap_get(healthy)), MEMDESC_POISON);
  CU_ASSERT_EQUAL(poison_noted(), 0);
  for (int i = 0; i < 4 * N; i++) {
    more[i] = quire_malloc(SIZE);
    CU_ASSERT_FALSE(in_frame(more[i], SIZE, bad));
  }
  for (int i = 0; i < 4 * N; i++) quire_free(more[i]);
  CU_ASSERT_TRUE(frames_consistent());
  (void)end;
}

/* Some live, some are freed, and none comes back as long as others live. */
static void freed_slots_stay_out_of_use(void) {
  enum { SIZE = 1200, N = 100 };
  static char *objects[N], *more[N];
  for (int i = 0; i < N; i++) objects[i] = quire_malloc(SIZE);
  struct slab *slab = memdesc_owner(memmap_get(arena_pfn(objects[N / 2])));
  pfn_t bad = slab->pfn;
  (void)quire_poison(arena_addr(bad));
  for (int i = 0; i < N; i++)
    if (i != N / 2 && memdesc_owner(memmap_get(arena_pfn(objects[i]))) == slab) {
      quire_free(objects[i]);
      objects[i] = NULL;
    }
  quire_purge(0);
  for (int i = 0; i < N; i++) {
    more[i] = quire_malloc(SIZE);
    CU_ASSERT_PTR_NOT_EQUAL(memdesc_owner(memmap_get(arena_pfn(more[i]))), slab);
  }
  CU_ASSERT_TRUE(bin_consistent(slab->size_class));
  for (int i = 0; i < N; i++) quire_free(objects[i]), quire_free(more[i]);
  quire_purge(0);
  CU_ASSERT_EQUAL(memdesc_type(memmap_get(bad)), MEMDESC_POISON);
}

static void large_allocations_lose_their_frame(void) {
  char *p = quire_malloc(300 << 10);
  pfn_t bad = pfn_add(arena_pfn(p), 3);
  CU_ASSERT_EQUAL(quire_poison(p + 3 * FRAME_SIZE + 5), EIO);
  quire_free(p); /* of a size that a cache would keep */
  CU_ASSERT_EQUAL(memdesc_type(memmap_get(bad)), MEMDESC_POISON);
  CU_ASSERT_EQUAL(quire_poison(arena_addr(bad)), 0);
  CU_ASSERT_EQUAL(quire_poison(&p), EINVAL);
}

#ifndef UFFDIO_POISON
struct uffdio_poison {
  struct uffdio_range range;
  __u64 mode;
  __s64 updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)
#endif

/* Makes the kernel treat a page as failed; what keeps it from that, or NULL. */
static const char *fail_page(void *page) {
  struct uffdio_api api = {.api = UFFD_API};
  int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return "userfaultfd is not permitted";
  struct uffdio_range range = {.start = (uintptr_t)page, .len = FRAME_SIZE};
  struct uffdio_register all = {.range = range, .mode = UFFDIO_REGISTER_MODE_MISSING};
  struct uffdio_poison poison = {.range = range};
  const char *why = NULL;
  if (ioctl(fd, UFFDIO_API, &api) != 0 || ioctl(fd, UFFDIO_REGISTER, &all) != 0)
    why = "userfaultfd refuses the range";
  else if (madvise(page, FRAME_SIZE, MADV_DONTNEED) != 0)
    why = "the page can't be discarded";
  else if (ioctl(fd, UFFDIO_POISON, &poison) != 0)
    why = "the kernel has no UFFDIO_POISON";
  close(fd);
  return why;
}

static volatile char *failed_page;

/* A sanitizer would take the signal for a finding. */
static void touches_it(void) {
  (void)signal(SIGBUS, SIG_DFL);
  *failed_page = 1;
}

/* The kernel raises SIGBUS in a page of a slab; after quire is told, the program goes on, and
 * whatever it allocates can be written. */
static void failed_memory_is_never_touched_again(void) {
  enum { SIZE = 2048, N = 1000 };
  static char *objects[N];
  if (sys_page_size() != FRAME_SIZE) {
    unit_skip("a page is more than a frame");
    return;
  }
  for (int i = 0; i < N; i++) objects[i] = quire_malloc(SIZE);
  char *page = arena_addr(arena_pfn(objects[N / 2]));
  const char *why = fail_page(page);
  if (why != NULL) {
    for (int i = 0; i < N; i++) quire_free(objects[i]);
    unit_skip(why);
    return;
  }
  failed_page = page;
  CU_ASSERT_TRUE(child_dies(touches_it));
  CU_ASSERT_EQUAL(quire_poison(page), EIO);
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < N; i++) quire_free(objects[i]);
    quire_purge(0);
    for (int i = 0; i < N; i++) memset(objects[i] = quire_malloc(SIZE), 1, SIZE);
  }
  CU_ASSERT_EQUAL(memdesc_type(memmap_get(arena_pfn(page))), MEMDESC_POISON);
  CU_ASSERT_TRUE(child_dies(touches_it));
  for (int i = 0; i < N; i++) quire_free(objects[i]);
}

static const struct unit_test tests[] = {
    {"objects_are_pinned_with_their_slab", objects_are_pinned_with_their_slab},
    {"folios_are_pinned", folios_are_pinned},
    {"only_what_was_pinned_is_unpinned", only_what_was_pinned_is_unpinned},
    {"what_is_not_allocated_cannot_be_pinned", what_is_not_allocated_cannot_be_pinned},
    {"ranges_may_span_allocations", ranges_may_span_allocations},
    {"isolated_memory_is_busy", isolated_memory_is_busy},
    {"a_slab_has_so_many_pins", a_slab_has_so_many_pins},
    {"pinned_memory_is_not_resized", pinned_memory_is_not_resized},
    {"threads_pin_one_owner", threads_pin_one_owner},
    {"children_have_pins_of_their_own", children_have_pins_of_their_own},
    {"slabs_with_failed_memory_hand_out_nothing", slabs_with_failed_memory_hand_out_nothing},
    {"freed_slots_stay_out_of_use", freed_slots_stay_out_of_use},
    {"large_allocations_lose_their_frame", large_allocations_lose_their_frame},
    {"failed_memory_is_never_touched_again", failed_memory_is_never_touched_again},
    {"pins_hold_while_compaction_works", pins_hold_while_compaction_works},
    {"pages_that_are_pinned_for_long_stay", pages_that_are_pinned_for_long_stay},
    {"registered_buffers_receive_after_a_fork", registered_buffers_receive_after_a_fork},
    {0},
};

int main(void) { return unit_main("pin", tests); }
