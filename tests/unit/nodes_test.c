/* The heap divided by nodes of memory, on made-up machines: hugepages, slabs and transfer areas of
 * each node apart, folios brought from one to another. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "arch/sys.h"
#include "page/bring.h"
#include "page/folio.h"
#include "page/hugepage.h"
#include "slab/bin_impl.h"
#include "tests/unit/check.h"
#include "tests/unit/elsewhere.h"
#include "tests/unit/fake_numa.h"
#include "tests/unit/random.h"

#define ARENA ((size_t)64 * HUGEPAGE_SIZE)

enum { CLASS = 12, OTHER_CLASS = 40 };

static const int two[] = {0, 1, 0, 1, NO_CPU};
static const int four[] = {0, 0, 2, 5, 9, NO_CPU}; /* the kernel's nodes 0, 2, 5 and 9 */

static bool consistent(void) {
  bool ok = frames_consistent();
  for (unsigned c = 0; c < SLAB_CLASSES; c++) ok = ok && bin_consistent(c);
  return ok;
}

static void begin(const int *machine) { nodes_begin(ARENA, true, machine); }

static void end(void) {
  CU_ASSERT_TRUE(consistent());
  nodes_end();
}

static pfn_t get_aligned(int cpu, size_t n, enum frames_kind kind) {
  struct frames_run run = {.pfn = {UINT32_MAX}};
  fake_cpu = cpu;
  CU_ASSERT_EQUAL_FATAL(frames_alloc(n, 1, kind, &run), 0);
  return run.pfn;
}

static pfn_t get(int cpu, size_t n) { return get_aligned(cpu, n, FRAMES_SLAB); }

static size_t used_of(unsigned node) {
  size_t used[NODES_MAX];
  frames_used_of(used);
  return used[node];
}

/* ---- hugepages ---- */

static void hugepages_are_of_a_node(void) {
  begin(four);
  pfn_t a = get(0, 10), b = get(2, 10), c = get(4, 10), d = get(1, 10);
  CU_ASSERT_EQUAL(frames_node(a), 1);
  CU_ASSERT_EQUAL(frames_node(b), 2);
  CU_ASSERT_EQUAL(frames_node(c), 4);
  CU_ASSERT_EQUAL(frames_node(d), 1); /* beside a */
  CU_ASSERT_EQUAL(pfn_hugepage(d).n, pfn_hugepage(a).n);
  CU_ASSERT_EQUAL(used_of(1), 20);
  CU_ASSERT_EQUAL(used_of(2), 10);
  CU_ASSERT_EQUAL(used_of(3), 0);
  for (int i = 0; i < 200; i++) {
    CU_ASSERT_EQUAL(frames_node(get(3, 7)), 3);
    CU_ASSERT_EQUAL(frames_node(get(2, 5)), 2);
  }
  frames_free(c, 10);
  CU_ASSERT_EQUAL(used_of(4), 0);
  end();
}

static void processors_of_no_node_are_served_too(void) {
  begin(two);
  CU_ASSERT_EQUAL(frames_node(get(17, 10)), NODE_UNKNOWN);
  CU_ASSERT_EQUAL(frames_node(get(-1, 10)), NODE_UNKNOWN);
  CU_ASSERT_EQUAL(frames_node(get(1, 10)), NODE_UNKNOWN); /* what is there is filled */
  end();
}

/* Memory that idles on one node is not given to the other, but to its own. */
static void idle_memory_waits_for_its_node(void) {
  begin(two);
  pfn_t a = get(0, HUGEPAGE_FRAMES), b = get(0, HUGEPAGE_FRAMES);
  frames_free(a, HUGEPAGE_FRAMES);
  pfn_t c = get(1, 100);
  CU_ASSERT_NOT_EQUAL(pfn_hugepage(c).n, pfn_hugepage(a).n);
  CU_ASSERT_EQUAL(frames_node(c), 2);
  CU_ASSERT_EQUAL(get(0, 100).n, a.n);
  frames_free(b, 400);
  CU_ASSERT_EQUAL(frames_node(get(1, 450)), 2);
  end();
}

static void without_memory_a_hugepage_is_nobodys(void) {
  begin(two);
  pfn_t a = get(0, HUGEPAGE_FRAMES);
  frames_free(a, HUGEPAGE_FRAMES);
  CU_ASSERT_EQUAL(frames_node(a), 1);
  CU_ASSERT_EQUAL(frames_purge(0), HUGEPAGE_FRAMES);
  CU_ASSERT_EQUAL(frames_node(a), NODE_UNKNOWN);
  CU_ASSERT_EQUAL(get(1, 10).n, a.n);
  CU_ASSERT_EQUAL(frames_node(a), 2);
  end();
}

/* Holes of every node's hugepages are given back. */
static void every_node_decays(void) {
  begin(two);
  pfn_t a = get(0, 400), b = get(1, 400);
  frames_free(pfn_add(a, 100), 100);
  frames_free(pfn_add(b, 100), 150);
  CU_ASSERT_EQUAL(frames_purge(0), 250);
  end();
}

static void what_was_there_before_is_filled_first(void) {
  heap_begin(ARENA, true);
  fake_numa_install();
  pfn_t a = get(0, 100), b = get(1, 100);
  CU_ASSERT_EQUAL(pfn_hugepage(a).n, pfn_hugepage(b).n);
  pfn_t c = get(0, HUGEPAGE_FRAMES);
  frames_free(c, HUGEPAGE_FRAMES);
  fake_numa_divide(two);
  CU_ASSERT_EQUAL(frames_node(get(1, 300)), NODE_UNKNOWN);
  /* That is full; memory of the time before that is wholly free is left to be discarded. */
  pfn_t d = get(1, 300);
  CU_ASSERT_EQUAL(frames_node(d), 2);
  CU_ASSERT_NOT_EQUAL(pfn_hugepage(d).n, pfn_hugepage(c).n);
  CU_ASSERT_EQUAL(used_of(NODE_UNKNOWN), 500);
  end();
}

static void the_last_resort_is_another_node(void) {
  begin(two);
  pfn_t a = get(0, HUGEPAGE_FRAMES);
  while (arena.opened * HUGEPAGE_FRAMES - frames_used() >= HUGEPAGE_FRAMES)
    a = get(0, HUGEPAGE_FRAMES);
  frames_free(a, 50);
  fake.refuse[FAKE_OPEN_WRITE] = -ENOMEM;
  struct frames_run run;
  fake_cpu = 1;
  CU_ASSERT_EQUAL_FATAL(frames_alloc(40, 1, FRAMES_SLAB, &run), 0);
  CU_ASSERT_EQUAL(frames_node(run.pfn), 1);
  CU_ASSERT_EQUAL(frames_alloc(40, 1, FRAMES_SLAB, &run), -ENOMEM);
  frames_free(pfn_add(a, 100), HUGEPAGE_FRAMES - 100);
  frames_free(pfn_add(a, 50), 50);
  frames_free(a, 40); /* a wholly free hugepage, warm, of node 1 */
  CU_ASSERT_EQUAL_FATAL(frames_alloc(HUGEPAGE_FRAMES, 1, FRAMES_FOLIO, &run), 0);
  CU_ASSERT_EQUAL(frames_node(run.pfn), 1);
  fake.refuse[FAKE_OPEN_WRITE] = 0;
  end();
}

/* A run of several hugepages passes over warm ones of another node. */
static void long_runs_keep_to_their_node(void) {
  begin(two);
  pfn_t a[6];
  for (int i = 0; i < 6; i++) a[i] = get(0, HUGEPAGE_FRAMES);
  for (int i = 0; i < 6; i++) frames_free(a[i], HUGEPAGE_FRAMES);
  pfn_t b = get_aligned(1, 3 * HUGEPAGE_FRAMES, FRAMES_FOLIO);
  for (int i = 0; i < 3; i++) CU_ASSERT_EQUAL(frames_node(pfn_add(b, i * HUGEPAGE_FRAMES)), 2);
  pfn_t c = get_aligned(0, 3 * HUGEPAGE_FRAMES, FRAMES_FOLIO);
  CU_ASSERT_EQUAL(c.n, a[0].n);
  end();
}

static void a_run_grows_by_memory_of_its_thread(void) {
  bool zero;
  begin(two);
  pfn_t a = get_aligned(0, HUGEPAGE_FRAMES, FRAMES_FOLIO);
  fake_cpu = 1;
  CU_ASSERT_TRUE(frames_extend(a, HUGEPAGE_FRAMES, 20, FRAMES_FOLIO, &zero));
  CU_ASSERT_EQUAL(frames_node(a), 1);
  CU_ASSERT_EQUAL(frames_node(pfn_add(a, HUGEPAGE_FRAMES)), 2);
  frames_free(a, HUGEPAGE_FRAMES + 20);
  end();
}

/* ---- slabs ---- */

static struct slab *slab_at(const void *p) { return memdesc_owner(memmap_get(arena_pfn(p))); }

static void take(int cpu, unsigned c, void **out, unsigned n) {
  fake_cpu = cpu;
  while (n > 0) {
    unsigned got = bin_refill(c, out, n);
    CU_ASSERT_TRUE_FATAL(got > 0 && got <= n);
    out += got;
    n -= got;
  }
}

static bool all_of(void *const *objects, unsigned n, unsigned node) {
  for (unsigned i = 0; i < n; i++)
    if (slab_at(objects[i])->node != node) return false;
  return true;
}

static struct bin_stats stats_of(unsigned c) {
  struct bin_stats stats;
  bin_stats(c, &stats);
  return stats;
}

static void slabs_are_of_a_node(void) {
  void *a[50], *b[50];
  begin(two);
  take(0, CLASS, a, 50);
  take(1, CLASS, b, 50);
  CU_ASSERT_TRUE(all_of(a, 50, 1));
  CU_ASSERT_TRUE(all_of(b, 50, 2));
  CU_ASSERT_EQUAL(stats_of(CLASS).nslabs, 2);
  CU_ASSERT_EQUAL(stats_of(CLASS).refills >= 2, true);
  for (int i = 0; i < 50; i++) CU_ASSERT_EQUAL(bin_check(CLASS, b[i]), SLAB_OK);
  end();
}

/* Whoever frees them, and in whatever order. */
static void objects_go_back_where_they_are_of(void) {
  enum { N = 200 };
  static void *a[N], *b[N], *mixed[2 * N], *again[N];
  begin(two);
  take(0, CLASS, a, N);
  take(1, CLASS, b, N);
  for (int i = 0; i < N; i++) mixed[2 * i] = a[i], mixed[2 * i + 1] = b[i];
  fake_cpu = 0;
  bin_flush(CLASS, mixed, N);
  bin_flush_to_slabs(CLASS, mixed + N, N / 2);
  for (int i = N + N / 2; i < 2 * N; i++) bin_free_now(CLASS, mixed[i]);
  CU_ASSERT_TRUE(consistent());
  take(1, CLASS, again, N / 2);
  CU_ASSERT_TRUE(all_of(again, N / 2, 2));
  bin_flush_to_slabs(CLASS, again, N / 2);
  (void)bin_trim(true);
  CU_ASSERT_EQUAL(frames_used(), 0);
  end();
}

/* Producer on one node, consumer on another: the batches come back to the producer's node. */
static void transfer_areas_are_of_a_node(void) {
  void *a[32], *b[32], *c[32];
  begin(two);
  take(0, CLASS, a, 32);
  take(1, CLASS, b, 32);
  flush_elsewhere(CLASS, a, 32);
  flush_elsewhere(CLASS, b, 16);
  CU_ASSERT_EQUAL(stats_of(CLASS).transfer, 48);
  CU_ASSERT_EQUAL(bin_transfer_bytes(), 48 * class_size(CLASS));
  take(1, CLASS, c, 16);
  for (int i = 0; i < 16; i++) CU_ASSERT_EQUAL(slab_at(c[i])->node, 2);
  CU_ASSERT_EQUAL(stats_of(CLASS).transfer, 32);
  take(0, CLASS, c, 32);
  CU_ASSERT_TRUE(all_of(c, 32, 1));
  CU_ASSERT_EQUAL(stats_of(CLASS).transfer, 0);
  end();
}

static void slabs_of_before_are_filled_first(void) {
  void *a[32], *b[8];
  heap_begin(ARENA, true);
  fake_numa_install();
  take(0, CLASS, a, 32);
  fake_numa_divide(two);
  take(1, CLASS, b, 8);
  CU_ASSERT_PTR_EQUAL(slab_at(b[0]), slab_at(a[0]));
  CU_ASSERT_EQUAL(slab_at(b[0])->node, NODE_UNKNOWN);
  bin_flush_to_slabs(CLASS, b, 8);
  bin_flush_to_slabs(CLASS, a, 32);
  (void)bin_trim(true);
  CU_ASSERT_EQUAL(frames_used(), 0);
  end();
}

static void another_nodes_slots_before_none(void) {
  void *a[8], *p;
  begin(two);
  take(0, CLASS, a, 8);
  fake.refuse[FAKE_OPEN_WRITE] = -ENOMEM;
  struct frames_run run;
  fake_cpu = 0;
  while (frames_alloc(1, 1, FRAMES_SLAB, &run) == 0) {
  }
  fake_cpu = 1;
  CU_ASSERT_EQUAL(bin_refill(CLASS, &p, 1), 1);
  CU_ASSERT_EQUAL(slab_at(p)->node, 1);
  CU_ASSERT_EQUAL(bin_refill(OTHER_CLASS, &p, 1), 0);
  fake.refuse[FAKE_OPEN_WRITE] = 0;
  end();
}

static void fork_takes_all_locks(void) {
  void *a[8];
  begin(four);
  take(4, CLASS, a, 8);
  bin_lock_all();
  for (unsigned node = 0; node < numa.count; node++)
    for (unsigned c = 0; c < SLAB_CLASSES; c++) CU_ASSERT(lock_is_held(&bin_at(node, c)->lock));
  bin_unlock_all();
  bin_lock_all();
  bin_reset_all();
  bin_flush_to_slabs(CLASS, a, 8);
  end();
}

/* ---- threads that wander from node to node ---- */

static uint64_t steps;
static uint8_t *owned; /* by address: the arena has no memory */

static bool claim(const void *p, uint8_t from, uint8_t to) {
  uint8_t *at = &owned[((uintptr_t)p - arena.base) / 16];
  return __atomic_compare_exchange_n(at, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static void *wander(void *arg) {
  static const unsigned classes[] = {1, CLASS, OTHER_CLASS, SLAB_CLASSES + 2};
  struct random r = {(uintptr_t)arg};
  void *held[256];
  unsigned class_held[256], n = 0;
  uintptr_t wrong = 0;
  for (uint64_t i = 0; i < steps; i++) {
    unsigned batch = 1 + (unsigned)random_below(&r, 20);
    fake_cpu = (int)random_below(&r, 6);
    if (n + batch <= 256 && random_below(&r, 2) == 0) {
      unsigned c = classes[random_below(&r, array_size(classes))];
      unsigned got = bin_refill(c, held + n, batch);
      for (unsigned k = 0; k < got; k++, n++) {
        class_held[n] = c;
        wrong += !claim(held[n], 0, 1);
      }
    } else {
      for (; batch > 0 && n > 0; batch--, n--) {
        wrong += !claim(held[n - 1], 1, 0);
        bin_flush(class_held[n - 1], &held[n - 1], 1);
      }
    }
    if (i % 1024 == 0) (void)bin_trim(i % 2048 == 0);
    if (i % 4096 == 0) (void)frames_purge(0);
  }
  for (; n > 0; n--) {
    wrong += !claim(held[n - 1], 1, 0);
    bin_flush(class_held[n - 1], &held[n - 1], 1);
  }
  return (void *)wrong;
}

static void threads_wander(void) {
  pthread_t threads[4];
  void *wrong;
  begin(four);
  steps = test_steps(50000);
  owned = calloc(ARENA / 16, 1);
  for (uintptr_t i = 0; i < 4; i++) pthread_create(&threads[i], NULL, wander, (void *)(i + 1));
  for (int i = 0; i < 4; i++) {
    pthread_join(threads[i], &wrong);
    CU_ASSERT_PTR_NULL(wrong);
  }
  CU_ASSERT_TRUE(consistent());
  (void)bin_trim(true);
  CU_ASSERT_EQUAL(frames_used(), 0);
  for (unsigned node = 0; node < numa.count; node++) CU_ASSERT_EQUAL(used_of(node), 0);
  free(owned);
  end();
}

/* ---- bringing ---- */

static struct folio *large(int cpu, size_t nframes) {
  bool zero;
  fake_cpu = cpu;
  struct folio *folio = folio_alloc(nframes, 1, FOLIO_UNCACHED, false, &zero);
  CU_ASSERT_PTR_NOT_NULL_FATAL(folio);
  return folio;
}

static int bring(int cpu, const struct folio *folio) {
  fake_cpu = cpu;
  return bring_now(folio_addr(folio));
}

static struct bring_stats brought(void) {
  struct bring_stats stats;
  bring_stats(&stats);
  return stats;
}

static bool lies_on(const struct folio *folio, unsigned node) {
  for (size_t i = 0; i < folio->nframes; i++)
    if (frames_node(pfn_add(folio->pfn, i)) != node) return false;
  return true;
}

static void a_folio_is_brought(void) {
  begin(four);
  struct folio *folio = large(0, 3 * HUGEPAGE_FRAMES + 100);
  CU_ASSERT_TRUE(lies_on(folio, 1));
  CU_ASSERT_EQUAL(bring(3, folio), 0);
  CU_ASSERT_TRUE(lies_on(folio, 3));
  CU_ASSERT_EQUAL(fake_numa.nmoves, 4);
  for (unsigned i = 0; i < 4; i++) {
    CU_ASSERT_EQUAL(fake_numa.moves[i].os_node, 5);
    CU_ASSERT_PTR_EQUAL(fake_numa.moves[i].p, (char *)folio_addr(folio) + i * HUGEPAGE_SIZE);
    CU_ASSERT_EQUAL(fake_numa.moves[i].length, i < 3 ? HUGEPAGE_SIZE : 100 * FRAME_SIZE);
  }
  CU_ASSERT_EQUAL(used_of(1), 0);
  CU_ASSERT_EQUAL(used_of(3), folio->nframes);
  CU_ASSERT_EQUAL(brought().folios, 1);
  CU_ASSERT_EQUAL(brought().frames, folio->nframes);
  CU_ASSERT_EQUAL(brought().refused, 0);
  CU_ASSERT_TRUE(folio_consistent(folio));
  /* There already. */
  CU_ASSERT_EQUAL(bring(3, folio), 0);
  CU_ASSERT_EQUAL(fake_numa.nmoves, 4);
  CU_ASSERT_EQUAL(brought().folios, 1);
  CU_ASSERT_TRUE(folio_free(folio));
  CU_ASSERT_EQUAL(frames_used(), 0);
  end();
}

static void what_is_shared_stays(void) {
  begin(two);
  struct folio *small = large(0, 40), *beside = large(0, 40);
  CU_ASSERT_EQUAL(bring(1, small), 0);
  CU_ASSERT_EQUAL(fake_numa.nmoves, 0);
  CU_ASSERT_TRUE(lies_on(small, 1));
  CU_ASSERT_TRUE(folio_free(beside));
  CU_ASSERT_EQUAL(bring(1, small), 0);
  CU_ASSERT_EQUAL(fake_numa.nmoves, 1);
  CU_ASSERT_TRUE(lies_on(small, 2));
  CU_ASSERT_TRUE(folio_free(small));
  end();
}

static void only_folios_are_brought(void) {
  void *p;
  int on_the_stack;
  begin(two);
  take(0, CLASS, &p, 1);
  fake_cpu = 1;
  CU_ASSERT_EQUAL(bring_now(p), -EINVAL);
  CU_ASSERT_EQUAL(bring_now(&on_the_stack), -EINVAL);
  CU_ASSERT_EQUAL(bring_now(NULL), -EINVAL);
  CU_ASSERT_EQUAL(bring_now(arena_addr((pfn_t){arena.nhugepages * HUGEPAGE_FRAMES - 1u})), -EINVAL);
  struct folio *folio = large(0, 2 * HUGEPAGE_FRAMES);
  fake_cpu = 1;
  CU_ASSERT_EQUAL(bring_now((char *)folio_addr(folio) + HUGEPAGE_SIZE + 5), 0); /* in its midst */
  CU_ASSERT_TRUE(lies_on(folio, 2));
  CU_ASSERT_EQUAL(bring(17, folio), 0); /* a processor of no known node */
  CU_ASSERT_TRUE(lies_on(folio, 2));
  end();
}

static void on_one_node_nothing_is_brought(void) {
  heap_begin(ARENA, true);
  fake_numa_install();
  struct folio *folio = large(0, 2 * HUGEPAGE_FRAMES);
  CU_ASSERT_EQUAL(bring(1, folio), 0);
  bring_later(folio);
  CU_ASSERT_FALSE(bring_pending());
  CU_ASSERT_EQUAL(fake_numa.nmoves, 0);
  nodes_end();
}

static void refusals_are_told_and_counted(void) {
  begin(two);
  struct folio *folio = large(0, 3 * HUGEPAGE_FRAMES);
  fake_numa.move_error = -ENODEV;
  CU_ASSERT_EQUAL(bring(1, folio), -ENODEV);
  CU_ASSERT_TRUE(lies_on(folio, 1));
  CU_ASSERT_EQUAL(brought().refused, HUGEPAGE_FRAMES);
  fake_numa.move_error = 0;
  /* The first is brought, the second not. */
  fake_numa.refuse_at = fake_numa.nmoves + 2;
  CU_ASSERT_EQUAL(bring(1, folio), -ENOMEM);
  CU_ASSERT_EQUAL(frames_node(folio->pfn), 2);
  CU_ASSERT_EQUAL(frames_node(pfn_add(folio->pfn, HUGEPAGE_FRAMES)), 1);
  CU_ASSERT_EQUAL(used_of(1), 2 * HUGEPAGE_FRAMES);
  CU_ASSERT_TRUE(consistent());
  /* A few pages that are pinned stay where they were; most of them don't let it count as brought.
   */
  fake_numa.refuse = 100;
  CU_ASSERT_EQUAL(bring(1, folio), 0);
  CU_ASSERT_TRUE(lies_on(folio, 2));
  fake_numa.refuse = 300;
  CU_ASSERT_EQUAL(bring(0, folio), -EAGAIN);
  CU_ASSERT_TRUE(lies_on(folio, 2));
  CU_ASSERT_TRUE(folio_free(folio));
  end();
}

static void pinned_and_busy_folios_stay(void) {
  begin(two);
  struct folio *folio = large(0, 2 * HUGEPAGE_FRAMES);
  CU_ASSERT_EQUAL(folio_pin(folio, folio->pfn), 0);
  CU_ASSERT_EQUAL(bring(1, folio), -EBUSY);
  folio_unpin(folio);
  const struct owner_ops *ops = owner_ops_of(folio);
  CU_ASSERT_EQUAL(ops->isolate(folio, folio->pfn), OWNER_DONE);
  CU_ASSERT_EQUAL(bring(1, folio), -EBUSY);
  ops->put_back(folio);
  CU_ASSERT_EQUAL(fake_numa.nmoves, 0);
  CU_ASSERT_EQUAL(bring(1, folio), 0);
  CU_ASSERT_TRUE(folio_free(folio));
  end();
}

static struct folio *victim;
static struct folio *neighbour;

static void free_victim(unused char *p, unused size_t length) {
  if (victim != NULL) CU_ASSERT_TRUE(folio_free(victim));
  victim = NULL;
}

/* The kernel is at work while its program frees it. */
static void freed_while_it_is_brought(void) {
  begin(two);
  victim = large(0, 2 * HUGEPAGE_FRAMES);
  fake_numa.on_move = free_victim;
  CU_ASSERT_EQUAL(bring(1, victim), 0);
  CU_ASSERT_PTR_NULL(victim);
  CU_ASSERT_EQUAL(frames_used(), 0);
  end();
}

static void allocate_beside(unused char *p, size_t length) {
  if (length == HUGEPAGE_SIZE || neighbour != NULL) return;
  neighbour = large(fake_cpu, 50);
}

/* What was put into a folio's last hugepage meanwhile was asked for on its new node. */
static void others_may_come_beside_it(void) {
  begin(two);
  neighbour = NULL;
  struct folio *folio = large(0, HUGEPAGE_FRAMES + 10);
  fake_numa.on_move = allocate_beside;
  fake_numa.refuse_at = 2;
  CU_ASSERT_EQUAL(bring(1, folio), -ENOMEM);
  CU_ASSERT_PTR_NOT_NULL_FATAL(neighbour);
  CU_ASSERT_EQUAL(pfn_hugepage(neighbour->pfn).n, pfn_hugepage(folio->pfn).n + 1);
  CU_ASSERT_TRUE(lies_on(neighbour, 2));
  CU_ASSERT_TRUE(consistent());
  CU_ASSERT_TRUE(folio_free(folio));
  CU_ASSERT_TRUE(folio_free(neighbour));
  end();
}

static void notes_are_served_bit_by_bit(void) {
  begin(two);
  struct folio *folio = large(0, 10 * HUGEPAGE_FRAMES);
  fake_cpu = 0;
  bring_later(folio); /* it is there */
  CU_ASSERT_FALSE(bring_pending());
  fake_cpu = 1;
  bring_later(folio);
  bring_later(folio);
  CU_ASSERT_TRUE(bring_pending());
  fake_cpu = 0; /* who brings it is elsewhere */
  unsigned units = 1;
  while (bring_next()) units++;
  CU_ASSERT_TRUE(units >= 3);
  CU_ASSERT_EQUAL(fake_numa.nmoves, 10);
  CU_ASSERT_TRUE(lies_on(folio, 2));
  CU_ASSERT_EQUAL(brought().folios, 1);
  CU_ASSERT_TRUE(folio_free(folio));
  end();
}

static void notes_of_what_has_gone_are_dropped(void) {
  begin(two);
  struct folio *folio = large(0, 2 * HUGEPAGE_FRAMES), *many[40];
  fake_cpu = 1;
  bring_later(folio);
  CU_ASSERT_TRUE(folio_free(folio));
  CU_ASSERT_FALSE(bring_next());
  CU_ASSERT_EQUAL(fake_numa.nmoves, 0);
  /* And a refused one isn't tried for ever; nor are more noted than there is room for. */
  fake_numa.move_error = -EPERM;
  for (int i = 0; i < 25; i++) {
    many[i] = large(0, HUGEPAGE_FRAMES);
    fake_cpu = 1;
    bring_later(many[i]);
  }
  unsigned units = 1;
  while (bring_next()) units++;
  CU_ASSERT_EQUAL(units, 16);
  CU_ASSERT_EQUAL(fake_numa.nmoves, 16);
  for (int i = 0; i < 25; i++) CU_ASSERT_TRUE(folio_free(many[i]));
  end();
}

/* Page tables are moved to addresses of another node: the memory stays what it is. */
static void moved_memory_keeps_its_node(void) {
  begin(two);
  struct folio *folio = large(0, 2 * HUGEPAGE_FRAMES);
  (void)large(0, 10); /* in its way */
  fake_cpu = 1;
  struct folio *moved = folio_move(folio, 4 * HUGEPAGE_FRAMES, FOLIO_UNCACHED);
  CU_ASSERT_PTR_NOT_NULL_FATAL(moved);
  CU_ASSERT_EQUAL(frames_node(moved->pfn), 1);
  CU_ASSERT_EQUAL(frames_node(pfn_add(moved->pfn, HUGEPAGE_FRAMES)), 1);
  CU_ASSERT_EQUAL(frames_node(pfn_add(moved->pfn, 3 * HUGEPAGE_FRAMES)), 2);
  CU_ASSERT_TRUE(consistent());
  bring_later(moved);
  while (bring_next()) {
  }
  CU_ASSERT_TRUE(lies_on(moved, 2));
  end();
}

static const struct unit_test tests[] = {
    {"hugepages_are_of_a_node", hugepages_are_of_a_node},
    {"processors_of_no_node_are_served_too", processors_of_no_node_are_served_too},
    {"idle_memory_waits_for_its_node", idle_memory_waits_for_its_node},
    {"without_memory_a_hugepage_is_nobodys", without_memory_a_hugepage_is_nobodys},
    {"every_node_decays", every_node_decays},
    {"what_was_there_before_is_filled_first", what_was_there_before_is_filled_first},
    {"the_last_resort_is_another_node", the_last_resort_is_another_node},
    {"long_runs_keep_to_their_node", long_runs_keep_to_their_node},
    {"a_run_grows_by_memory_of_its_thread", a_run_grows_by_memory_of_its_thread},
    {"slabs_are_of_a_node", slabs_are_of_a_node},
    {"objects_go_back_where_they_are_of", objects_go_back_where_they_are_of},
    {"transfer_areas_are_of_a_node", transfer_areas_are_of_a_node},
    {"slabs_of_before_are_filled_first", slabs_of_before_are_filled_first},
    {"another_nodes_slots_before_none", another_nodes_slots_before_none},
    {"fork_takes_all_locks", fork_takes_all_locks},
    {"threads_wander", threads_wander},
    {"a_folio_is_brought", a_folio_is_brought},
    {"what_is_shared_stays", what_is_shared_stays},
    {"only_folios_are_brought", only_folios_are_brought},
    {"on_one_node_nothing_is_brought", on_one_node_nothing_is_brought},
    {"refusals_are_told_and_counted", refusals_are_told_and_counted},
    {"pinned_and_busy_folios_stay", pinned_and_busy_folios_stay},
    {"freed_while_it_is_brought", freed_while_it_is_brought},
    {"others_may_come_beside_it", others_may_come_beside_it},
    {"notes_are_served_bit_by_bit", notes_are_served_bit_by_bit},
    {"notes_of_what_has_gone_are_dropped", notes_of_what_has_gone_are_dropped},
    {"moved_memory_keeps_its_node", moved_memory_keeps_its_node},
    {0},
};

int main(void) { return unit_main("nodes", tests); }
