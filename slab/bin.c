/* Bins and transfer areas.
 *
 * Theory. A slab of a class is in one of these places, guarded by its bin's lock:
 *
 *   PARTIAL  the list of its fullness (eighths of slots taken), searched from the fullest
 *   FULL     in no list; only its frames' memdescs lead to it
 *   kept     empty, the bin's single spare (state PARTIAL, in list 0 like any other)
 *   ISOLATED, GUEST  the bin's lists of that name: compaction has it (migrate.c)
 *   gone     destroyed: frames and descriptor given back
 *
 *   new -> PARTIAL <-> FULL; PARTIAL -> kept or gone when its last slot comes back
 *
 * Refilling takes from the fullest list, so that sparse slabs drain by themselves. A bin keeps one
 * empty slab, so that a program that goes back and forth over a slab's edge does not create and
 * destroy.
 *
 * Nodes. Where the heap is divided by nodes of memory (arch/numa.h) each class has a bin and a
 * transfer area for each of them. What a thread frees goes back to the bin of the slab that it is
 * of; a thread is served by those of the node that it runs on, then by those of no known node, then
 * by a new slab; by another node's only when there is no memory any more. Those of node 0 are
 * static, so that one node costs nothing.
 *
 * Locks: the transfer lock and the bin lock of a class are never held together but by fork (all
 * transfer locks, then all bin locks, in order of node and class). Slabs are created and destroyed
 * with neither held; two threads that run dry together may both create one, which is no harm. The
 * frames and descriptor locks rank higher and are taken inside. Fork: everything is quiescent under
 * the locks. */
#include "slab/bin.h"

#include <string.h>

#include "arch/sys.h"
#include "page/folio.h"
#include "slab/bin_impl.h"
#include "slab/mesh.h"

enum {
  TRANSFER_MAX = 1024,       /* objects of one class in its transfer area */
  TRANSFER_BYTES = 64 << 10, /* and bytes: two batches of a full cache; none of what is larger */
  TAKE_MAX = 64,             /* empty slabs destroyed after one flush */
};

struct transfer {
  struct lock lock;
  uint32_t n;
  uint32_t low;         /* fewest held since the last trim: they were of no use */
  bool handed_over;     /* one thread's refills met another's flushes: worth its memory */
  bool handed_over_now; /* the same since the last trim */
  /* Name the threads that did so last. Racy, like the two above: a miss more or less is no harm. */
  const void *refiller, *flusher;
};

_Static_assert((int)CLASS_LARGE == (int)FOLIO_UNCACHED, "page/ and slab/ mean the same class");

struct bin bins[SLAB_CLASSES] = {[0 ... SLAB_CLASSES - 1] = {.lock = LOCK_INIT(RANK_BIN)}};
static struct transfer transfers[CACHED_CLASSES] = {
    [0 ... CACHED_CLASSES - 1] = {.lock = LOCK_INIT(RANK_TRANSFER)}};
static void *transfer_objects[CACHED_CLASSES][TRANSFER_MAX]; /* zeros until a class uses its row */

/* The same of a node from 1 on. */
struct shelf {
  struct bin bins[SLAB_CLASSES];
  struct transfer transfers[CACHED_CLASSES];
  void *objects[CACHED_CLASSES][TRANSFER_MAX];
};

static struct shelf *shelves;
static size_t shelves_bytes;

struct bin *bin_of_node(unsigned node, unsigned size_class) {
  return &shelves[node - 1].bins[size_class];
}

static struct transfer *transfer_at(unsigned node, unsigned size_class) {
  if (likely(node == NODE_UNKNOWN)) return &transfers[size_class];
  return &shelves[node - 1].transfers[size_class];
}

static void **objects_at(unsigned node, unsigned size_class) {
  if (likely(node == NODE_UNKNOWN)) return transfer_objects[size_class];
  return shelves[node - 1].objects[size_class];
}

bool bin_open_nodes(unsigned count) {
  size_t bytes = align_up((count - 1) * sizeof(struct shelf), sys_page_size());
  void *p;
  if (shelves != NULL) return true;
  if (sys->reserve(bytes, &p) != 0) return false;
  if (sys->open_write(p, bytes) != 0) {
    (void)sys->unreserve(p, bytes);
    return false;
  }
  struct shelf *all = p;
  for (unsigned i = 0; i < count - 1; i++) {
    for (unsigned c = 0; c < SLAB_CLASSES; c++)
      all[i].bins[c].lock = (struct lock)LOCK_INIT(RANK_BIN);
    for (unsigned c = 0; c < CACHED_CLASSES; c++)
      all[i].transfers[c].lock = (struct lock)LOCK_INIT(RANK_TRANSFER);
  }
  shelves_bytes = bytes;
  shelves = all;
  return true;
}

/* Of the slab that an object is of. What is in none is found out later. */
static unsigned node_of(const void *p) {
  if (likely(!numa_on())) return NODE_UNKNOWN;
  memdesc_t d = memmap_peek(arena_pfn(p));
  if (memdesc_type(d) != MEMDESC_SLAB) return NODE_UNKNOWN;
  const struct slab *slab = memdesc_owner(d);
  return load_relaxed(&slab->node);
}

static _Noreturn cold void misuse(const void *p, enum bin_misuse what) {
  bin_misuse_handler(p, what);
  __builtin_trap();
}

/* One thread alone has its cache, and what overflows that should be free for other classes. A
 * transfer area is worth its memory only where objects are freed by other threads than allocate
 * them. */
static unsigned transfer_limit(const struct transfer *t, unsigned size_class) {
  if (!load_relaxed(&t->handed_over)) return 0;
  return (unsigned)size_min(TRANSFER_MAX, TRANSFER_BYTES / class_size(size_class));
}

static const void *this_thread(void) {
  static _Thread_local char thread tls_initial_exec; /* its address is the name */
  return &thread;
}

static void note_hand_over(struct transfer *t, const void *other) {
  if (other == NULL || other == this_thread()) return;
  store_relaxed(&t->handed_over_now, true);
  store_relaxed(&t->handed_over, true);
}

/* ---- slabs and their lists; the bin lock is held ---- */

static unsigned fullness_of(const struct slab *slab) {
  return (unsigned)(slab->nslots - slab->nfree) * FULLNESS_LISTS / (slab->nslots + 1u);
}

/* The fewest slots taken that still make this fullness. */
static unsigned least_taken(const struct slab *slab, unsigned fullness) {
  return (fullness * (slab->nslots + 1u) + FULLNESS_LISTS - 1) / FULLNESS_LISTS;
}

void bin_list_add(struct bin *bin, struct slab *slab) {
  unsigned f = fullness_of(slab);
  struct slab **head = &bin->partial[f];
  slab->fullness = (uint8_t)f;
  slab->nfree_max = (uint16_t)(slab->nslots - least_taken(slab, f));
  slab->prev = NULL;
  slab->next = *head;
  if (*head != NULL) (*head)->prev = slab;
  *head = slab;
}

void bin_list_remove(struct bin *bin, struct slab *slab) {
  if (slab->next != NULL) slab->next->prev = slab->prev;
  if (slab->prev != NULL)
    slab->prev->next = slab->next;
  else
    bin->partial[slab->fullness] = slab->next;
}

static struct slab *fullest(struct bin *bin) {
  for (int f = FULLNESS_LISTS - 1; f >= 0; f--)
    if (bin->partial[f] != NULL) return bin->partial[f];
  return NULL;
}

static unsigned take_from_slabs(struct bin *bin, void **out, unsigned n) {
  unsigned got = 0;
  struct slab *slab;
  while (got < n && (slab = fullest(bin)) != NULL) {
    if (slab_is_empty(slab)) bin->nempty--;
    unsigned taken = slab_take(slab, out + got, n - got);
    bin->free_slots -= taken;
    got += taken;
    bin_list_remove(bin, slab);
    if (slab->nfree == 0) {
      slab->state = SLAB_FULL;
      bin->nfull++;
    } else {
      bin_list_add(bin, slab);
    }
  }
  return got;
}

static struct slab *slab_of(unsigned size_class, const void *p) {
  memdesc_t d = memmap_get(arena_pfn(p));
  if (unlikely(memdesc_type(d) != MEMDESC_SLAB)) misuse(p, MISUSE_NOT_ALLOCATED);
  if (unlikely(memdesc_class(d) != size_class)) misuse(p, MISUSE_WRONG_CLASS);
  return memdesc_owner(d);
}

struct slab *bin_settle(struct bin *bin, struct slab *slab) {
  if (unlikely(slab->state == SLAB_ISOLATED)) return NULL; /* whoever has it will settle it */
  if (unlikely(slab->state == SLAB_GUEST))
    return slab_is_empty(slab) ? mesh_leave(bin, slab) : NULL;
  if (unlikely(slab->state == SLAB_RETIRED))
    return slab_is_empty(slab) ? slab_leave_retired(bin, slab) : NULL;
  if (slab->state == SLAB_FULL) {
    slab->state = SLAB_PARTIAL;
    bin->nfull--;
    bin_list_add(bin, slab);
  } else if (slab->nfree > slab->nfree_max) {
    bin_list_remove(bin, slab);
    bin_list_add(bin, slab);
  }
  if (likely(!slab_is_empty(slab))) return NULL;
  if (bin->nempty == 0) {
    bin->nempty = 1;
    return NULL;
  }
  bin_list_remove(bin, slab);
  bin_forget_slab(bin, slab);
  mesh_unhost(slab);
  return slab;
}

void bin_forget_slab(struct bin *bin, struct slab *slab) {
  bin->nslabs--;
  bin->free_slots -= slab->nfree;
  slab->state = SLAB_FREE; /* compaction may still find it by its memdescs */
}

void bin_destroy_slab(struct slab *slab) {
  if (unlikely(slab->mesh != NULL) && !mesh_release(slab)) return;
  slab_destroy(slab);
}

static void put_in_slabs(unsigned size_class, void *const *objects, unsigned n) {
  struct slab *gone[TAKE_MAX];
  unsigned ngone = 0;
  while (n > 0) {
    unsigned node = node_of(*objects);
    struct bin *bin = bin_at(node, size_class);
    lock_acquire(&bin->lock);
    while (n > 0 && ngone < TAKE_MAX - MESH_GONE_MAX) {
      enum slab_verdict verdict = SLAB_OK;
      struct slab *slab = slab_of(size_class, *objects);
      if (unlikely(slab->node != node)) break; /* another bin's */
      unsigned put = likely(slab->mesh == NULL)
                         ? slab_put(slab, objects, n, &verdict)
                         : mesh_put(bin, slab, *objects, &verdict, gone, &ngone);
      objects += put;
      n -= put;
      bin->free_slots += put;
      if (unlikely(verdict != SLAB_OK))
        misuse(*objects, verdict == SLAB_INTERIOR ? MISUSE_INTERIOR : MISUSE_DOUBLE_FREE);
      struct slab *empty = bin_settle(bin, slab);
      if (unlikely(empty != NULL)) gone[ngone++] = empty;
    }
    lock_release(&bin->lock);
    while (ngone > 0) bin_destroy_slab(gone[--ngone]);
  }
}

/* ---- folio classes ---- */

static struct folio *folio_of(const void *p) {
  memdesc_t d = memmap_get(arena_pfn(p));
  if (memdesc_type(d) != MEMDESC_FOLIO) misuse(p, MISUSE_DOUBLE_FREE);
  struct folio *folio = memdesc_owner(d);
  if (folio_addr(folio) != p) misuse(p, MISUSE_INTERIOR);
  return folio;
}

static void free_objects(unsigned size_class, void *const *objects, unsigned n) {
  if (class_is_slab(size_class))
    put_in_slabs(size_class, objects, n);
  else
    for (; n > 0; n--, objects++) {
      if (!folio_free(folio_of(*objects))) misuse(*objects, MISUSE_DOUBLE_FREE);
    }
}

static unsigned allocate_folio(unsigned size_class, void **out) {
  bool zero;
  struct folio *folio =
      folio_alloc(size_classes[size_class].nframes, frames_of(class_alignment(size_class)),
                  size_class, false, &zero);
  if (folio == NULL) return 0;
  out[0] = folio_addr(folio);
  return 1;
}

/* Of slabs that are there. */
static always_inline unsigned take_from_bin(unsigned node, unsigned size_class, void **out,
                                            unsigned n) {
  struct bin *bin = bin_at(node, size_class);
  lock_acquire(&bin->lock);
  bin->refills++;
  unsigned got = take_from_slabs(bin, out, n);
  lock_release(&bin->lock);
  return got;
}

static unsigned take_from_new_slab(unsigned size_class, void **out, unsigned n) {
  struct slab *slab = slab_new(size_class);
  if (slab == NULL) return 0;
  struct bin *bin = bin_of(slab, size_class);
  lock_acquire(&bin->lock);
  bin->nslabs++;
  bin->nempty++;
  bin->free_slots += slab->nslots;
  slab->state = SLAB_PARTIAL;
  bin_list_add(bin, slab);
  unsigned got = take_from_slabs(bin, out, n);
  lock_release(&bin->lock);
  return got;
}

/* ---- transfer areas ---- */

static always_inline unsigned transfer_pop(unsigned node, unsigned size_class, void **out,
                                           unsigned n) {
  struct transfer *t = transfer_at(node, size_class);
  if (load_relaxed(&t->n) == 0) return 0; /* racy, and right soon enough */
  lock_acquire(&t->lock);
  unsigned got = t->n < n ? t->n : n;
  store_relaxed(&t->n, t->n - got);
  if (t->n < t->low) t->low = t->n;
  memcpy(out, objects_at(node, size_class) + t->n, got * sizeof *out);
  lock_release(&t->lock);
  return got;
}

static always_inline unsigned transfer_push(unsigned node, unsigned size_class,
                                            void *const *objects, unsigned n) {
  struct transfer *t = transfer_at(node, size_class);
  unsigned limit = transfer_limit(t, size_class);
  if (load_relaxed(&t->n) >= limit) return 0;
  lock_acquire(&t->lock);
  unsigned room = limit - t->n, put = room < n ? room : n;
  memcpy(objects_at(node, size_class) + t->n, objects, put * sizeof *objects);
  store_relaxed(&t->n, t->n + put);
  lock_release(&t->lock);
  return put;
}

/* What a node has at hand. In line, so that one node costs no call. */
static always_inline unsigned take_from_node(unsigned node, unsigned size_class, void **out,
                                             unsigned n) {
  unsigned got = transfer_pop(node, size_class, out, n);
  if (got > 0 || !class_is_slab(size_class)) return got;
  return take_from_bin(node, size_class, out, n);
}

/* Of the time before nodes were known. */
static noinline unsigned take_from_before(unsigned size_class, void **out, unsigned n) {
  return take_from_node(NODE_UNKNOWN, size_class, out, n);
}

static cold unsigned take_from_any(unsigned size_class, void **out, unsigned n) {
  unsigned got = 0;
  for (unsigned node = 0; node < numa.count && got == 0; node++)
    got = take_from_node(node, size_class, out, n);
  return got;
}

unsigned bin_refill(unsigned size_class, void **out, unsigned n) {
  unsigned node = numa_here();
  struct transfer *t = transfer_at(node, size_class);
  store_relaxed(&t->refiller, this_thread());
  note_hand_over(t, load_relaxed(&t->flusher));
  unsigned got = take_from_node(node, size_class, out, n);
  if (unlikely(got == 0 && node != NODE_UNKNOWN)) got = take_from_before(size_class, out, n);
  if (got > 0) return got;
  if (!class_is_slab(size_class)) return allocate_folio(size_class, out);
  got = take_from_new_slab(size_class, out, n);
  return unlikely(got == 0 && numa_on()) ? take_from_any(size_class, out, n) : got;
}

/* Objects of one node. */
static always_inline void flush(unsigned node, unsigned size_class, void *const *objects,
                                unsigned n) {
  struct transfer *t = transfer_at(node, size_class);
  store_relaxed(&t->flusher, this_thread());
  note_hand_over(t, load_relaxed(&t->refiller));
  unsigned put = transfer_push(node, size_class, objects, n);
  if (class_is_slab(size_class)) { /* approximate: a lost count is no loss */
    uint64_t *flushes = &bin_at(node, size_class)->flushes;
    store_relaxed(flushes, load_relaxed(flushes) + 1);
  }
  if (put < n) free_objects(size_class, objects + put, n - put);
}

/* Run by run, as they are of one node. */
static noinline void flush_by_node(unsigned size_class, void *const *objects, unsigned n) {
  for (unsigned run; n > 0; objects += run, n -= run) {
    unsigned node = node_of(objects[0]);
    for (run = 1; run < n && node_of(objects[run]) == node; run++) {
    }
    flush(node, size_class, objects, run);
  }
}

void bin_flush(unsigned size_class, void *const *objects, unsigned n) {
  if (likely(!numa_on()))
    flush(NODE_UNKNOWN, size_class, objects, n);
  else
    flush_by_node(size_class, objects, n);
}

void bin_flush_to_slabs(unsigned size_class, void *const *objects, unsigned n) {
  free_objects(size_class, objects, n);
}

void bin_free_now(unsigned size_class, void *object) { free_objects(size_class, &object, 1); }

/* ---- giving back ---- */

static bool trim_transfer(unsigned node, unsigned size_class, bool all) {
  enum { BATCH = 64 };
  struct transfer *t = transfer_at(node, size_class);
  void *objects[BATCH];
  unsigned n, left = all ? TRANSFER_MAX : 0;
  if (load_relaxed(&t->n) == 0) return false;
  lock_acquire(&t->lock);
  if (!all) left = t->low;
  lock_release(&t->lock);
  while (left > 0) {
    lock_acquire(&t->lock);
    n = t->n < left ? t->n : left;
    n = n < BATCH ? n : BATCH;
    /* The oldest, at the bottom, are the coldest; order doesn't matter otherwise. */
    void **held = objects_at(node, size_class);
    memcpy(objects, held, n * sizeof *objects);
    memmove(held, held + n, (t->n - n) * sizeof *objects);
    store_relaxed(&t->n, t->n - n);
    lock_release(&t->lock);
    if (n == 0) break;
    free_objects(size_class, objects, n);
    left -= n;
  }
  lock_acquire(&t->lock);
  t->low = t->n;
  if (!load_relaxed(&t->handed_over_now)) store_relaxed(&t->handed_over, false);
  store_relaxed(&t->handed_over_now, false);
  bool more = t->n > 0;
  lock_release(&t->lock);
  return more;
}

/* A bin keeps one empty slab; two threads that ran dry together may have left it more. */
static void trim_empty_slabs(struct bin *bin) {
  struct slab *slab;
  do {
    lock_acquire(&bin->lock);
    for (slab = bin->partial[0]; slab != NULL && !slab_is_empty(slab); slab = slab->next) {
    }
    if (slab != NULL) {
      bin_list_remove(bin, slab);
      bin_forget_slab(bin, slab);
      bin->nempty--;
      mesh_unhost(slab);
    }
    lock_release(&bin->lock);
    if (slab != NULL) bin_destroy_slab(slab);
  } while (slab != NULL);
}

bool bin_trim(bool all) {
  bool more = false;
  for (unsigned node = 0; node < numa.count; node++)
    for (unsigned c = 0; c < CACHED_CLASSES; c++) {
      more |= trim_transfer(node, c, all);
      if (c < SLAB_CLASSES) trim_empty_slabs(bin_at(node, c));
    }
  return more;
}

/* ---- looking ---- */

static void add_stats(unsigned node, unsigned size_class, struct bin_stats *out) {
  unsigned transfer = load_relaxed(&transfer_at(node, size_class)->n);
  out->transfer += transfer;
  if (!class_is_slab(size_class)) {
    if (transfer > 0) out->metadata += sizeof transfer_objects[0];
    return;
  }
  struct bin *bin = bin_at(node, size_class);
  uint64_t flushes = load_relaxed(&bin->flushes);
  lock_acquire(&bin->lock);
  /* What lives in a host for its guests is counted in these. */
  out->free_slots += bin->free_slots + bin->nblocked;
  out->nslabs += bin->nslabs;
  out->nfull += bin->nfull;
  out->frames += (size_t)bin->nslabs * size_classes[size_class].nframes;
  out->refills += bin->refills;
  out->flushes += flushes;
  if (bin->refills > 0) out->metadata += sizeof *bin;
  if (flushes > 0) out->metadata += sizeof transfer_objects[0]; /* untouched before */
  lock_release(&bin->lock);
}

void bin_stats(unsigned size_class, struct bin_stats *out) {
  *out = (struct bin_stats){0};
  for (unsigned node = 0; node < numa.count; node++) add_stats(node, size_class, out);
}

struct bin_places bin_places(void) {
  return (struct bin_places){
      .bins = bins,
      .transfers = transfers,
      .shelves = &shelves,
      .shelf_stride = sizeof(struct shelf),
      .shelf_transfers = offsetof(struct shelf, transfers),
      .bin_stride = sizeof(struct bin),
      .nslabs = offsetof(struct bin, nslabs),
      .nblocked = offsetof(struct bin, nblocked),
      .free_slots = offsetof(struct bin, free_slots),
      .refills = offsetof(struct bin, refills),
      .flushes = offsetof(struct bin, flushes),
      .transfer_stride = sizeof(struct transfer),
      .transfer_n = offsetof(struct transfer, n),
      .transfer_bytes = sizeof transfer_objects[0],
  };
}

size_t bin_transfer_bytes(void) {
  size_t bytes = 0;
  for (unsigned node = 0; node < numa.count; node++)
    for (unsigned c = 0; c < CACHED_CLASSES; c++)
      bytes += load_relaxed(&transfer_at(node, c)->n) * class_size(c);
  return bytes;
}

enum slab_verdict bin_check(unsigned size_class, const void *p) {
  struct bin *bin = bin_at(node_of(p), size_class);
  enum slab_verdict verdict = SLAB_DOUBLE_FREE;
  lock_acquire(&bin->lock);
  memdesc_t d = memmap_get(arena_pfn(p));
  if (memdesc_type(d) == MEMDESC_SLAB && memdesc_class(d) == size_class)
    verdict = mesh_check(memdesc_owner(d), p);
  lock_release(&bin->lock);
  return verdict;
}

void bin_lock_all(void) {
  for (unsigned node = 0; node < numa.count; node++)
    for (unsigned c = 0; c < CACHED_CLASSES; c++) lock_acquire(&transfer_at(node, c)->lock);
  for (unsigned node = 0; node < numa.count; node++)
    for (unsigned c = 0; c < SLAB_CLASSES; c++) lock_acquire(&bin_at(node, c)->lock);
}

void bin_unlock_all(void) {
  for (unsigned node = numa.count; node-- > 0;)
    for (unsigned c = SLAB_CLASSES; c-- > 0;) lock_release(&bin_at(node, c)->lock);
  for (unsigned node = numa.count; node-- > 0;)
    for (unsigned c = CACHED_CLASSES; c-- > 0;) lock_release(&transfer_at(node, c)->lock);
}

void bin_reset_all(void) {
  for (unsigned node = numa.count; node-- > 0;)
    for (unsigned c = SLAB_CLASSES; c-- > 0;) lock_reset(&bin_at(node, c)->lock);
  for (unsigned node = numa.count; node-- > 0;)
    for (unsigned c = CACHED_CLASSES; c-- > 0;) lock_reset(&transfer_at(node, c)->lock);
}

static bool consistent(unsigned node, struct bin *bin) {
  unsigned npartial = 0, nempty = 0, nguest = 0;
  size_t free_slots = 0;
  bool ok = true;
  lock_acquire(&bin->lock);
  for (unsigned f = 0; f < FULLNESS_LISTS; f++)
    for (struct slab *s = bin->partial[f], *prev = NULL; s != NULL; prev = s, s = s->next) {
      ok = ok && slab_consistent(s) && s->prev == prev && s->state == SLAB_PARTIAL;
      ok = ok && s->node == node;
      ok = ok && s->nfree > 0 && s->fullness == f && fullness_of(s) == f;
      ok = ok && (s->mesh == NULL || mesh_consistent(s));
      nempty += slab_is_empty(s);
      free_slots += s->nfree;
      npartial++;
    }
  for (struct slab *s = bin->guests; s != NULL; free_slots += s->nfree, nguest++, s = s->next)
    ok =
        ok && slab_consistent(s) && s->state == SLAB_GUEST && s->node == node && mesh_consistent(s);
  for (struct slab *s = bin->isolated; s != NULL; free_slots += s->nfree, nguest++, s = s->next)
    ok = ok && slab_consistent(s) && s->state == SLAB_ISOLATED && s->node == node &&
         mesh_consistent(s);
  for (struct slab *s = bin->retired; s != NULL; free_slots += s->nfree, nguest++, s = s->next)
    ok = ok && slab_consistent(s) && s->state == SLAB_RETIRED && !slab_is_empty(s);
  ok = ok && npartial + bin->nfull + nguest == bin->nslabs && nempty == bin->nempty &&
       free_slots == bin->free_slots;
  lock_release(&bin->lock);
  return ok;
}

bool bin_consistent(unsigned size_class) {
  bool ok = true;
  for (unsigned node = 0; node < numa.count; node++)
    ok = ok && consistent(node, bin_at(node, size_class));
  return ok;
}

void bin_fini_all(void) {
  if (shelves != NULL) (void)sys->unreserve(shelves, shelves_bytes);
  shelves = NULL;
  shelves_bytes = 0;
  for (unsigned c = 0; c < SLAB_CLASSES; c++) bins[c] = (struct bin){.lock = LOCK_INIT(RANK_BIN)};
  for (unsigned c = 0; c < CACHED_CLASSES; c++)
    transfers[c] = (struct transfer){.lock = LOCK_INIT(RANK_TRANSFER)};
}
