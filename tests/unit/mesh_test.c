/* Meshing: its bookkeeping against a model, its contents by the real migration on a fake zone,
 * misuse of slots that are shared. */
#include "slab/mesh.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "arch/sys.h"
#include "page/compact.h"
#include "page/mover.h"
#include "page/zone.h"
#include "slab/migrate.h"
#include "slab/pin.h"
#include "tests/unit/check.h"
#include "tests/unit/child.h"
#include "tests/unit/fake_zone.h"
#include "tests/unit/random.h"

#define ARENA ((size_t)64 * HUGEPAGE_SIZE)

enum { SLOTS_MOST = 1024, PAIR_SIZE = 192, PAIR_SLOTS = 170 };

/* Powers of two, sizes whose slots straddle frames, slots longer than a frame. */
static const uint32_t sizes[] = {16,   48,   64,   112,  240,  256,  576,   640,   1024,
                                 1280, 1536, 3072, 4096, 6144, 8192, 20480, 22528, 65536};

static void end(void) {
  for (unsigned c = 0; c < SLAB_CLASSES; c++) CU_ASSERT_TRUE(bin_consistent(c));
  CU_ASSERT_TRUE(frames_consistent());
  CU_ASSERT_TRUE(zone_consistent());
  CU_ASSERT_TRUE(fake_zone_quiet());
  CU_ASSERT_PTR_NULL(fake_zone.wrong);
  zone_heap_end();
}

/* ---- objects: each is filled with a pattern of its own ---- */

struct object {
  unsigned char *p;
  uint32_t pattern;
};

enum { OBJECTS_MOST = 20000 };

static struct object objects[OBJECTS_MOST];
static size_t nobjects;
static uint32_t next_pattern;
static size_t size;         /* of an object */
static unsigned size_class; /* of these */

static void fill(struct object *o) {
  uint32_t *words = (uint32_t *)o->p;
  for (size_t i = 0; i < size / sizeof *words; i++) words[i] = o->pattern + (uint32_t)i;
}

static bool intact(const struct object *o) {
  const uint32_t *words = (const uint32_t *)o->p;
  for (size_t i = 0; i < size / sizeof *words; i++)
    if (words[i] != o->pattern + (uint32_t)i) return false;
  return true;
}

static bool all_intact(void) {
  for (size_t i = 0; i < nobjects; i++)
    if (!intact(&objects[i])) return false;
  return true;
}

static void get_objects(size_t n) {
  void *out[64];
  for (n = size_min(n, OBJECTS_MOST - nobjects); n > 0;) {
    unsigned got = bin_refill(size_class, out, (unsigned)size_min(n, 64));
    CU_ASSERT_TRUE_FATAL(got > 0);
    for (unsigned i = 0; i < got; i++) {
      objects[nobjects] = (struct object){out[i], next_pattern += 0x10001};
      fill(&objects[nobjects++]);
    }
    n -= got;
  }
}

static void put_object(size_t i) {
  void *p = objects[i].p;
  objects[i] = objects[--nobjects];
  bin_free_now(size_class, p);
}

static void put_all(void) {
  while (nobjects > 0) put_object(nobjects - 1);
}

static struct slab *slab_of(const void *p) { return memdesc_owner(memmap_get(arena_pfn(p))); }

static void begin(size_t object_size) {
  zone_heap_begin(ARENA);
  size = object_size;
  size_class = class_of(size);
  CU_ASSERT_EQUAL_FATAL(class_size(size_class), size);
  nobjects = 0;
  next_pattern = 1;
  CU_ASSERT_EQUAL_FATAL(zone_open(false, -1), ZONE_OPEN);
}

/* Every slab of the class, by the memmap. */
static size_t all_slabs(struct slab **out, size_t most) {
  size_t n = 0;
  for (uint32_t at = 0; at < arena.opened * HUGEPAGE_FRAMES; at++) {
    memdesc_t d = memmap_get((pfn_t){at});
    if (memdesc_type(d) != MEMDESC_SLAB || memdesc_class(d) != size_class) continue;
    struct slab *slab = memdesc_owner(d);
    if (slab->pfn.n == at && n < most) out[n++] = slab;
  }
  return n;
}

static void thin_out(struct random *r, size_t left) {
  while (nobjects > left) put_object(random_below(r, nobjects));
}

/* ---- bookkeeping, step by step ---- */

enum { RUNS = 32, SLABS = 512 };

struct moving {
  struct mesh_run *run;
  uint64_t lived[SLAB_WORDS_LARGE];
};

/* The guest at work. */
static struct {
  struct slab *slab;
  uint32_t busy; /* frames in runs that are moving */
  struct moving moving[RUNS];
  unsigned n;
} guest;

static const char *wrong;
static unsigned settled, detached, mixed;

static uint32_t frames_mask(unsigned first, unsigned n) {
  return (uint32_t)((((uint64_t)1 << n) - 1) << first);
}

static bool bit(const uint64_t *bits, unsigned n) { return bits[n / 64] >> n % 64 & 1; }

static const struct moving *moving_of(const struct mesh_run *run) {
  for (unsigned i = 0; i < guest.n; i++)
    if (guest.moving[i].run == run) return &guest.moving[i];
  return NULL;
}

/* Derives a host's blocked slots from its runs. */
static void check_host(const struct slab *host, size_t *nblocked) {
  uint64_t expected[SLAB_WORDS_LARGE] = {0};
  for (const struct mesh_run *run = first_as_host(host); run != NULL; run = next_of_host(run)) {
    const struct moving *m = moving_of(run);
    const struct slab *of = run_guest(run);
    unsigned from, to;
    run_slots(run, &from, &to);
    for (unsigned slot = from; slot < to; slot++) {
      bool own = !slab_slot_is_free(of, slot) && !mesh_is_blocked(of, slot);
      bool held = m != NULL ? bit(m->lived, slot) : own;
      unsigned there = (unsigned)((int)slot + run->shift);
      if (!held) continue;
      if (bit(expected, there)) wrong = "two objects in one place";
      expected[there / 64] |= (uint64_t)1 << there % 64;
    }
  }
  for (unsigned slot = 0; slot < host->nslots; slot++) {
    if (bit(expected, slot) != mesh_is_blocked(host, slot)) wrong = "blocked slots";
    if (bit(expected, slot) && slab_slot_is_free(host, slot)) wrong = "blocked and free";
    *nblocked += bit(expected, slot);
  }
}

static void check_books(void) {
  static struct slab *slabs[SLABS];
  size_t n = all_slabs(slabs, SLABS), nblocked = 0, taken = 0;
  for (size_t i = 0; i < n; i++) {
    if (!slab_consistent(slabs[i])) wrong = "slab_consistent";
    if (!mesh_consistent(slabs[i])) wrong = "mesh_consistent";
    taken += (size_t)(slabs[i]->nslots - slabs[i]->nfree);
    if (slabs[i]->mesh != NULL) check_host(slabs[i], &nblocked);
  }
  if (bins[size_class].nblocked != nblocked) wrong = "count of blocked slots";
  if (bins[size_class].nslabs != n) wrong = "count of slabs";
  if (taken - nblocked != nobjects) wrong = "taken slots are not the objects";
  if (!bin_consistent(size_class)) wrong = "bin_consistent";
}

static void copy_live(const struct moving *m) {
  const struct mesh_run *run = m->run;
  size_t begin = (size_t)run->first * FRAME_SIZE, end = begin + (size_t)run->n * FRAME_SIZE;
  const char *from = slab_addr(run_guest(run));
  char *to = zone_view(pfn_add(run_host(run)->pfn, run->at));
  unsigned first_slot, end_slot;
  run_slots(run, &first_slot, &end_slot);
  for (unsigned slot = first_slot; slot < end_slot; slot++) {
    if (!bit(m->lived, slot)) continue;
    size_t a = size_max(slot * size, begin), b = size_min((slot + 1) * size, end);
    memcpy(to + (a - begin), from + a, b - a);
  }
}

static void lock_bin(void) { lock_acquire(&bins[size_class].lock); }
static void unlock_bin(void) { lock_release(&bins[size_class].lock); }

static void destroy(struct slab **gone, unsigned n) {
  while (n > 0) bin_destroy_slab(gone[--n]);
}

static void finish_run(unsigned i, bool settle) {
  struct slab *gone[RUNS + MESH_GONE_MAX];
  unsigned ngone = 0;
  struct moving m = guest.moving[i];
  struct mesh_run *run = m.run;
  pfn_t pfn = pfn_add(guest.slab->pfn, run->first), at = pfn_add(run_host(run)->pfn, run->at);
  uint32_t frames = frames_mask(run->first, run->n);
  if (settle) {
    copy_live(&m);
    if (zone_map(pfn, run->n, at) != 0) wrong = "zone_map";
    frames_hollow(guest.slab->pfn, frames & ~guest.slab->holes);
    guest.slab->holes |= frames;
  }
  guest.moving[i] = guest.moving[--guest.n];
  guest.busy &= ~frames;
  lock_bin();
  if (settle)
    mesh_settle(&bins[size_class], run, m.lived, gone, &ngone);
  else
    mesh_detach(&bins[size_class], run, m.lived, gone, &ngone);
  unlock_bin();
  settled += settle;
  detached += !settle;
  destroy(gone, ngone);
}

/* What of the guest has no host becomes one itself, at its own place. */
static void make_rest_home(struct slab *slab) {
  uint32_t mapped = slab->mesh == NULL ? 0 : slab->mesh->mapped;
  uint32_t rest = slab_live_frames(slab) & ~mapped;
  if (rest == 0 || !mesh_prepare(slab)) return;
  for (uint32_t left = rest; left != 0; left &= left - 1) {
    pfn_t pfn = pfn_add(slab->pfn, (size_t)__builtin_ctz(left));
    memcpy(zone_view(pfn), arena_addr(pfn), FRAME_SIZE);
    if (zone_map(pfn, 1, pfn) != 0) wrong = "zone_map";
  }
  lock_bin();
  mesh_make_home(slab, rest);
  unlock_bin();
  mixed += mesh_is_guest(slab);
}

static void put_guest_back(bool settle, bool home) {
  while (guest.n > 0) finish_run(guest.n - 1, settle);
  if (home) make_rest_home(guest.slab);
  slab_put_back(guest.slab);
  guest.slab = NULL;
}

static void attach(struct random *r, struct slab *host) {
  unsigned n = 1 + (unsigned)random_below(r, guest.slab->nframes);
  unsigned first = (unsigned)random_below(r, guest.slab->nframes - n + 1u);
  unsigned at = (unsigned)random_below(r, host->nframes - n + 1u);
  uint32_t frames = frames_mask(first, n);
  uint32_t mapped = guest.slab->mesh == NULL ? 0 : guest.slab->mesh->mapped;
  if (random_below(r, 2) == 0) at = first;
  if ((frames & (guest.busy | mapped)) != 0 || guest.n == RUNS || host == guest.slab) return;
  if (host->state != SLAB_PARTIAL && host->state != SLAB_GUEST) return;
  if (!mesh_same_phase(size_class, first, at)) return;
  if (!zone_is_home(pfn_add(host->pfn, at), n)) return;
  struct moving *m = &guest.moving[guest.n];
  lock_bin();
  if (mesh_fits(guest.slab, first, n, host, at)) {
    for (unsigned w = 0; w < slab_words(guest.slab); w++) m->lived[w] = ~guest.slab->free[w];
    m->run = mesh_attach(&bins[size_class], guest.slab, first, n, host, at);
    if (m->run != NULL) {
      guest.n++;
      guest.busy |= frames;
    }
  }
  unlock_bin();
}

/* A slab becomes a lone host. */
static void make_host(struct slab *slab) {
  if (slab->mesh != NULL || slab_isolate(slab, slab->pfn) != OWNER_DONE) return;
  bool ok = mesh_prepare(slab);
  memcpy(zone_view(slab->pfn), slab_addr(slab), slab->nframes * (size_t)FRAME_SIZE);
  ok = ok && zone_map(slab->pfn, slab->nframes, slab->pfn) == 0;
  if (ok)
    mesh_make_home(slab, slab_all_frames(slab));
  else
    wrong = "no host";
  slab_put_back(slab);
}

static void freeze_and_thaw(void) {
  if (guest.slab != NULL) put_guest_back(true, false);
  if (zone_freeze() != 0) wrong = "zone_freeze";
  check_books();
  slab_thaw_all();
  if (bins[size_class].guests != NULL) wrong = "guests after thawing";
  if (bins[size_class].nblocked != 0) wrong = "blocked for nobody";
  if (zone_open(false, -1) != ZONE_OPEN) wrong = "zone_open";
}

/* Some of its frames get memory of their own, as for a pin. */
static void move_out(struct random *r, const struct slab *slab) {
  unsigned n = 1 + (unsigned)random_below(r, slab->nframes);
  pfn_t pfn = pfn_add(slab->pfn, random_below(r, slab->nframes - n + 1u));
  if (slab_move_out(pfn, n) != 0 || zone_is_shared(pfn, n)) wrong = "slab_move_out";
  for (size_t i = 0; i < nobjects; i++) {
    if (slab_of(objects[i].p) != slab || random_below(r, 2) != 0) continue;
    objects[i].pattern += 3;
    fill(&objects[i]);
  }
}

static void step(struct random *r, size_t least) {
  static struct slab *slabs[SLABS], *hosts_now[SLABS];
  size_t n = all_slabs(slabs, SLABS), nhosts = 0;
  for (size_t i = 0; i < n; i++)
    if (zone_has_home(slabs[i]->pfn, slabs[i]->nframes)) hosts_now[nhosts++] = slabs[i];
  struct slab *slab = n == 0 ? NULL : slabs[random_below(r, n)];
  if (n < 8 && random_below(r, 16) == 0) { /* what is left has gathered in a few slabs */
    get_objects(8u * size_classes[size_class].nslots);
    thin_out(r, 2 * least);
    return;
  }
  switch (random_below(r, 16)) {
  case 0:
  case 1:
    if (nobjects < 2 * least) get_objects(1 + random_below(r, 8));
    break;
  case 2:
  case 3:
  case 4:
    for (size_t k = 1 + random_below(r, 8); k > 0 && nobjects > least; k--)
      put_object(random_below(r, nobjects));
    break;
  case 5:
    for (unsigned k = 0; k < 4 && slab != NULL && guest.slab == NULL; k++) {
      slab = slabs[random_below(r, n)];
      if (slab_isolate(slab, slab->pfn) == OWNER_DONE) guest.slab = slab;
    }
    break;
  case 6:
    if (guest.n > 0 && random_below(r, 2) == 0)
      finish_run((unsigned)random_below(r, guest.n), random_below(r, 3) != 0);
    break;
  case 7:
    if (guest.slab != NULL && random_below(r, 4) == 0)
      put_guest_back(random_below(r, 4) != 0, random_below(r, 2) != 0);
    break;
  case 8:
    if (slab != NULL && slab != guest.slab && nhosts < 4) make_host(slab);
    break;
  case 9:
    /* Everything in the guest: to be empty while it is at work, or soon. */
    if (guest.slab == NULL || random_below(r, 8) != 0) break;
    for (size_t i = nobjects; i-- > 0;)
      if (slab_of(objects[i].p) == guest.slab) put_object(i);
    break;
  case 10:
    if (random_below(r, 20) == 0) freeze_and_thaw();
    break;
  case 11:
    if (slab != NULL && slab != guest.slab && random_below(r, 4) == 0) move_out(r, slab);
    break;
  default:
    if (nhosts == 0) break;
    for (unsigned k = 0; k < 32 && guest.slab != NULL && guest.n < 6; k++)
      attach(r, hosts_now[random_below(r, nhosts)]);
    break;
  }
}

static void books_hold(size_t object_size, struct random *r, uint64_t steps) {
  begin(object_size);
  /* Few enough in each slab for two to fit together. */
  size_t per_slab = size_classes[size_class].nslots, least = size_min(2 * per_slab, 60);
  guest.slab = NULL;
  guest.n = 0;
  guest.busy = 0;
  wrong = NULL;
  get_objects(12 * per_slab);
  thin_out(r, 2 * least);
  for (uint64_t i = 0; i < steps && wrong == NULL; i++) {
    step(r, least);
    check_books();
    if (i % 16 == 0 && !all_intact()) wrong = "contents";
  }
  if (!all_intact()) wrong = "contents";
  if (wrong != NULL) printf("%zu bytes: %s\n", size, wrong);
  CU_ASSERT_PTR_NULL_FATAL(wrong);
  if (guest.slab != NULL) put_guest_back(true, false);
  CU_ASSERT_TRUE(all_intact());

  put_all();
  check_books();
  (void)bin_trim(true);
  CU_ASSERT_EQUAL(frames_used(), 0);
  struct zone_stats stats;
  zone_stats(&stats);
  CU_ASSERT_EQUAL(stats.home + stats.guest + stats.frozen, 0);
  CU_ASSERT_EQUAL(bins[size_class].nblocked, 0);
  end();
}

static void books_hold_step_by_step(void) {
  struct random r = {test_seed()};
  uint64_t steps = test_steps(30000) / 10; /* each is followed by a check of all */
  settled = detached = mixed = 0;
  for (unsigned i = 0; i < array_size(sizes); i++) books_hold(sizes[i], &r, steps);
  printf("%u runs settled, %u given up, %u guests became hosts too\n", settled, detached, mixed);
  CU_ASSERT_TRUE(settled >= steps / 20 && detached >= steps / 100 && mixed >= steps / 1000);
}

/* ---- by the real migration ---- */

static uint32_t host_frames[SLABS];
static struct host_list hosts[COMPACT_CLASSES];

static struct migration migration(void) {
  memset(hosts, 0, sizeof hosts);
  hosts[size_class] = (struct host_list){.pfn = host_frames, .most = SLABS};
  return (struct migration){.mesh = true, .shortest = 1, .mappings_left = 30000, .hosts = hosts};
}

/* Asks every slab of the class; the sparsest last, so that the first become hosts. */
static void migrate_all(struct migration *m) {
  static struct slab *slabs[SLABS];
  size_t n = all_slabs(slabs, SLABS);
  for (size_t i = 0; i < n; i++) {
    pfn_t pfn = slabs[i]->pfn;
    if (slab_isolate(slabs[i], pfn) != OWNER_DONE) continue;
    (void)slab_migrate(slabs[i], m);
    slab_put_back(slabs[i]);
  }
}

/* Slabs in which so many objects live on average, anywhere. */
static void make_sparse(struct random *r, size_t slabs, size_t each) {
  get_objects(slabs * size_classes[size_class].nslots);
  slabs = nobjects / size_classes[size_class].nslots; /* there may be room for fewer */
  thin_out(r, slabs * each);
  CU_ASSERT_EQUAL(zone_is_plain((pfn_t){0}, arena.opened * HUGEPAGE_FRAMES), true);
}

static struct zone_stats zone_now(void) {
  struct zone_stats stats;
  zone_stats(&stats);
  return stats;
}

static void everything_goes(void) {
  put_all();
  (void)bin_trim(true);
  CU_ASSERT_EQUAL(frames_used(), 0);
  CU_ASSERT_EQUAL(zone_now().home + zone_now().guest + zone_now().frozen, 0);
  CU_ASSERT_EQUAL(zone_mappings(), 0);
}

/* Every live object is at its own address as it was, uses less memory, and all goes on. */
static void migrate_size(size_t object_size, struct random *r) {
  begin(object_size);
  make_sparse(r, 40, size_min(1 + size_classes[size_class].nslots / 8, 14));
  struct migration m = migration();
  migrate_all(&m);
  if (!all_intact()) printf("%zu bytes: contents\n", size);
  CU_ASSERT_TRUE_FATAL(all_intact());
  CU_ASSERT_TRUE(bin_consistent(size_class));
  bool small = size <= COMPACT_SLOT_MAX; /* others stay where they are */
  CU_ASSERT_EQUAL(m.hosts_made > 0 && m.meshed > 0, small);
  CU_ASSERT_TRUE(small || (m.hosts_made + m.meshed == 0 && m.hollowed > 0));
  CU_ASSERT_EQUAL(m.pinned, 0);
  for (int round = 0; round < 20; round++) {
    for (size_t k = nobjects / 8; k > 0; k--) put_object(random_below(r, nobjects));
    get_objects(nobjects / 8);
    for (size_t i = 0; i < nobjects; i++) { /* the program goes on writing */
      objects[i].pattern += 77;
      fill(&objects[i]);
    }
    if (round % 4 == 3) migrate_all(&m);
    CU_ASSERT_TRUE_FATAL(all_intact());
    CU_ASSERT_TRUE(bin_consistent(size_class));
  }
  everything_goes();
  end();
}

static void migration_loses_nothing(void) {
  struct random r = {test_seed()};
  for (unsigned i = 0; i < array_size(sizes); i++) migrate_size(sizes[i], &r);
}

static size_t longest_lift;

static void lifts_are_slow(enum fake_zone_call call, char *p, unused char *to, size_t length) {
  if (call != FAKE_ZONE_SHIFT || !arena_contains(p)) return;
  fake.cpu_us += 10000;
  longest_lift = size_max(longest_lift, length / FRAME_SIZE);
}

/* With a budget for hardly a frame all is moved as it is otherwise: hosts, guests, and slabs that
 * are both. Without one, slabs are moved whole. */
static void short_lifts_lose_nothing(void) {
  static const uint32_t some[] = {64, 240, 640};
  struct random r = {5};
  for (unsigned i = 0; i < array_size(some); i++)
    for (unsigned budget = 10; budget <= 100000; budget *= 100) {
      begin(some[i]);
      lift_configure(budget);
      make_sparse(&r, 40, size_min(1 + size_classes[size_class].nslots / 8, 14));
      struct migration m = migration();
      longest_lift = 0;
      fake_zone.seen = lifts_are_slow;
      migrate_all(&m);
      fake_zone.seen = NULL;
      CU_ASSERT_TRUE(m.meshed > 0 && m.hosts_made > 0);
      if (budget == 10) CU_ASSERT_EQUAL(longest_lift, 1);
      if (budget == 100000) CU_ASSERT_TRUE(longest_lift > 4);
      CU_ASSERT_TRUE(all_intact());
      for (size_t k = 0; k < nobjects; k++) {
        objects[k].pattern += 77;
        fill(&objects[k]);
      }
      get_objects(nobjects / 2);
      CU_ASSERT_TRUE(all_intact());
      lift_configure(200);
      everything_goes();
      end();
    }
}

/* A page in the midst is pinned: what went before it is where it is, the rest stays. */
static void a_pinned_page_ends_a_host_of_many_lifts(void) {
  begin(PAIR_SIZE);
  get_objects(PAIR_SLOTS);
  struct slab *slab = slab_of(objects[0].p);
  for (size_t i = nobjects; i-- > 0;)
    if ((uintptr_t)objects[i].p / FRAME_SIZE % 2 == 0) put_object(i);
  lift_configure(10);
  longest_lift = 0;
  fake_zone.seen = lifts_are_slow;
  fake_zone.pinned = arena_addr(pfn_add(slab->pfn, 4));
  struct migration m = migration();
  CU_ASSERT_EQUAL_FATAL(slab_isolate(slab, slab->pfn), OWNER_DONE);
  (void)slab_migrate(slab, &m);
  slab_put_back(slab);
  fake_zone.seen = NULL;
  CU_ASSERT_EQUAL(m.pinned, 1);
  CU_ASSERT_EQUAL(longest_lift, 1);
  CU_ASSERT_TRUE(zone_is_home(slab->pfn, 4));
  CU_ASSERT_TRUE(zone_is_plain(pfn_add(slab->pfn, 4), slab->nframes - 4u));
  CU_ASSERT_TRUE(all_intact());
  CU_ASSERT_TRUE(bin_consistent(size_class));
  fake_zone_permit();
  lift_configure(200);
  get_objects(PAIR_SLOTS / 2);
  CU_ASSERT_TRUE(all_intact());
  everything_goes();
  end();
}

/* A freed slot of a guest is to be had again, in its host: no slab is made for as many objects as
 * were freed. */
static void freed_slots_of_guests_are_their_hosts(void) {
  struct random r = {3};
  struct bin_stats before, after;
  begin(64);
  make_sparse(&r, 40, 20);
  struct migration m = migration();
  migrate_all(&m);
  CU_ASSERT_TRUE(m.meshed > 0);
  bin_stats(size_class, &before);
  size_t nblocked = bins[size_class].nblocked;
  CU_ASSERT_TRUE(nblocked > 0);
  CU_ASSERT_EQUAL(before.free_slots, before.nslabs * size_classes[size_class].nslots - nobjects);
  size_t freed = 0;
  for (size_t i = nobjects; i-- > 0;) {
    if (slab_of(objects[i].p)->state != SLAB_GUEST) continue;
    put_object(i);
    freed++;
  }
  CU_ASSERT_TRUE(freed > 0);
  CU_ASSERT_EQUAL(bins[size_class].nblocked, 0);
  CU_ASSERT_PTR_NULL(bins[size_class].guests); /* nothing lives in any: plain memory again */
  CU_ASSERT_EQUAL(zone_now().guest, 0);
  bin_stats(size_class, &after);
  CU_ASSERT_TRUE(after.nslabs < before.nslabs);
  get_objects(freed);
  CU_ASSERT_TRUE(all_intact());
  bin_stats(size_class, &after);
  CU_ASSERT_TRUE(after.nslabs < before.nslabs);
  everything_goes();
  end();
}

/* ---- two slabs, laid out by hand ---- */

static struct slab *pair_host, *pair_guest;
static void *in_host, *in_guest;
static unsigned host_slot, guest_slot;

static void *at_slot(const struct slab *slab, unsigned slot) {
  return (char *)slab_addr(slab) + slot * size;
}

/* Leaves the object of one slot of a slab. */
static void keep_slot(const struct slab *slab, unsigned slot) {
  for (size_t i = nobjects; i-- > 0;)
    if (slab_of(objects[i].p) == slab && objects[i].p != at_slot(slab, slot)) put_object(i);
}

/* A host with one object of its own, and a guest with one that lives in the host's memory. */
static void make_pair(unsigned of_host, unsigned of_guest) {
  static struct slab *slabs[2];
  begin(PAIR_SIZE);
  host_slot = of_host;
  guest_slot = of_guest;
  get_objects(2 * PAIR_SLOTS);
  CU_ASSERT_EQUAL_FATAL(all_slabs(slabs, 2), 2);
  pair_host = slabs[0];
  pair_guest = slabs[1];
  keep_slot(pair_host, host_slot);
  keep_slot(pair_guest, guest_slot);
  CU_ASSERT_EQUAL_FATAL(nobjects, 2);
  in_host = at_slot(pair_host, host_slot);
  in_guest = at_slot(pair_guest, guest_slot);
  struct migration m = migration();
  migrate_all(&m);
  CU_ASSERT_EQUAL_FATAL(m.hosts_made, 1);
  CU_ASSERT_EQUAL_FATAL(m.runs, 1);
  CU_ASSERT_EQUAL_FATAL(pair_guest->state, SLAB_GUEST);
  CU_ASSERT_TRUE(all_intact());
}

static void a_pair_has_names_for_its_parts(void) {
  make_pair(9, 5);
  CU_ASSERT_PTR_EQUAL(run_host(first_as_guest(pair_guest)), pair_host);
  CU_ASSERT_PTR_EQUAL(run_guest(first_as_host(pair_host)), pair_guest);
  CU_ASSERT_EQUAL(pair_host->mesh->home, slab_all_frames(pair_host));
  CU_ASSERT_TRUE(mesh_is_blocked(pair_host, guest_slot));
  CU_ASSERT_EQUAL(bins[size_class].nblocked, 1);
  CU_ASSERT_EQUAL(zone_backing(arena_pfn(in_guest)), ZONE_GUEST);
  CU_ASSERT_EQUAL(zone_frame_of(arena_pfn(in_guest)).n, arena_pfn(in_host).n);
  everything_goes();
  end();
}

static void the_last_object_takes_the_guest_along(void) {
  make_pair(9, 5);
  put_object(objects[0].p == in_guest ? 0 : 1);
  CU_ASSERT_EQUAL(zone_now().guest, 0);
  CU_ASSERT_EQUAL(bins[size_class].nslabs, 1);
  CU_ASSERT_EQUAL(bins[size_class].nblocked, 0);
  CU_ASSERT_FALSE(slab_slot_is_free(pair_host, host_slot));
  CU_ASSERT_TRUE(slab_slot_is_free(pair_host, guest_slot));
  CU_ASSERT_TRUE(all_intact());
  everything_goes();
  end();
}

/* A host in which nothing of its own lives any more stays for its guest's sake. */
static void a_host_stays_for_its_guest(void) {
  make_pair(9, 5);
  put_object(objects[0].p == in_host ? 0 : 1);
  (void)bin_trim(true);
  CU_ASSERT_EQUAL(bins[size_class].nslabs, 2);
  CU_ASSERT_EQUAL(zone_now().home, pair_host->nframes);
  CU_ASSERT_TRUE(all_intact());
  get_objects(PAIR_SLOTS - 1); /* all of the host but the guest's slot */
  for (size_t i = 0; i < nobjects; i++)
    CU_ASSERT_PTR_EQUAL(slab_of(objects[i].p), objects[i].p == in_guest ? pair_guest : pair_host);
  CU_ASSERT_TRUE(all_intact());
  everything_goes();
  end();
}

/* Refused private memory: the frames are nobody's from then on, and all else goes on. */
static void frames_that_can_not_be_remapped_are_given_up(void) {
  make_pair(9, 5);
  pfn_t pfn = pair_guest->pfn;
  size_t n = pair_guest->nframes;
  fake.refuse[FAKE_REFRESH] = -ENOMEM;
  put_object(objects[0].p == in_guest ? 0 : 1);
  fake.refuse[FAKE_REFRESH] = 0;
  for (size_t i = 0; i < n; i++)
    CU_ASSERT_EQUAL(memdesc_type(memmap_get(pfn_add(pfn, i))), MEMDESC_POISON);
  CU_ASSERT_EQUAL(bins[size_class].nslabs, 1);
  CU_ASSERT_TRUE(all_intact());
  get_objects(1000);
  CU_ASSERT_TRUE(all_intact());
  for (size_t i = 0; i < nobjects; i++) {
    pfn_t at = arena_pfn(objects[i].p);
    CU_ASSERT_TRUE(at.n < pfn.n || at.n >= pfn.n + n);
  }
  put_all();
  (void)bin_trim(true);
  CU_ASSERT_EQUAL(frames_used(), n);
  end();
}

/* ---- misuse ---- */

static void *victim;

static void leave(const void *p, enum bin_misuse what) { _exit(p == victim ? 10 + (int)what : 9); }
static void free_victim(void) { bin_free_now(size_class, victim); }

static void free_victim_twice(void) {
  bin_free_now(size_class, victim);
  bin_free_now(size_class, victim);
}

static int told(void (*run)(void), void *p) {
  victim = p;
  int status = child_status(run);
  return WIFEXITED(status) ? WEXITSTATUS(status) - 10 : -1;
}

/* The zone is frozen first, as before any fork. */
static void check_misuse(bool frozen) {
  make_pair(9, 5);
  /* One more in the guest, so that it outlives the other. */
  bin_misuse_fn *before = bin_misuse_handler;
  bin_misuse_handler = leave;
  if (frozen) CU_ASSERT_EQUAL(zone_freeze(), 0);
  void *blocked = at_slot(pair_host, guest_slot);
  CU_ASSERT_EQUAL(told(free_victim, blocked), MISUSE_DOUBLE_FREE);
  CU_ASSERT_EQUAL(told(free_victim, at_slot(pair_guest, host_slot)), MISUSE_DOUBLE_FREE);
  CU_ASSERT_EQUAL(told(free_victim, at_slot(pair_host, 100)), MISUSE_DOUBLE_FREE);
  CU_ASSERT_EQUAL(told(free_victim, (char *)in_guest + 16), MISUSE_INTERIOR);
  CU_ASSERT_EQUAL(told(free_victim, (char *)in_host + 16), MISUSE_INTERIOR);
  CU_ASSERT_EQUAL(told(free_victim, (char *)blocked + 8), MISUSE_INTERIOR);
  CU_ASSERT_EQUAL(told(free_victim_twice, in_host), MISUSE_DOUBLE_FREE);
  /* With its last object the guest itself has gone. */
  CU_ASSERT_EQUAL(told(free_victim_twice, in_guest), MISUSE_NOT_ALLOCATED);
  CU_ASSERT_EQUAL(bin_check(size_class, in_host), SLAB_OK);
  CU_ASSERT_EQUAL(bin_check(size_class, in_guest), SLAB_OK);
  CU_ASSERT_EQUAL(bin_check(size_class, blocked), SLAB_DOUBLE_FREE);
  CU_ASSERT_EQUAL(bin_check(size_class, (char *)blocked + 8), SLAB_INTERIOR);
  bin_misuse_handler = before;
  everything_goes();
  end();
}

static void misuse_is_told(void) { check_misuse(false); }
static void misuse_is_told_after_a_freeze(void) { check_misuse(true); }

/* ---- hosts that go while their guest stays ---- */

/* A slot of 22528 bytes touches seven frames: cut into short runs it lies in as many hosts as there
 * are runs. All of these may become empty by one free. */
static void one_free_empties_many_slabs(void) {
  enum { SIZE = 22528, HOSTS = 7, FIRST = 5 };
  static struct slab *slabs[16];
  begin(SIZE);
  get_objects(3 * (HOSTS + 2));
  size_t n = all_slabs(slabs, 16);
  CU_ASSERT_EQUAL_FATAL(n, HOSTS + 2);
  for (size_t i = 0; i < n; i++) keep_slot(slabs[i], 1);
  for (size_t i = 0; i < n - 1; i++) make_host(slabs[i]);
  CU_ASSERT_EQUAL_FATAL(slab_isolate(slabs[n - 1], slabs[n - 1]->pfn), OWNER_DONE);
  guest.slab = slabs[n - 1];
  guest.n = guest.busy = 0;
  /* The hosts' own go; one slab more that is empty, so that no host is kept. */
  struct object last = {0};
  for (size_t i = nobjects; i-- > 0;) {
    if (slab_of(objects[i].p) == guest.slab) {
      last = objects[i];
      continue;
    }
    if (slab_of(objects[i].p) == slabs[n - 2]) put_object(i);
  }
  uint32_t touched = slab_live_frames(guest.slab);
  unsigned made = 0;
  for (unsigned f = 0; f < guest.slab->nframes && made < HOSTS; f++) {
    if (!(touched >> f & 1)) continue;
    struct slab *host = slabs[made];
    for (size_t i = nobjects; i-- > 0;)
      if (slab_of(objects[i].p) == host && objects[i].p != last.p) {
        void *p = objects[i].p;
        objects[i] = objects[--nobjects];
        lock_bin();
        /* Its slot becomes the guest's at once, or the host would go. */
        enum slab_verdict verdict = SLAB_OK;
        struct slab *gone[RUNS];
        unsigned ngone = 0;
        unsigned put = mesh_put(&bins[size_class], host, p, &verdict, gone, &ngone);
        bins[size_class].free_slots += put;
        bin_list_remove(&bins[size_class], host);
        bin_list_add(&bins[size_class], host);
        bins[size_class].nempty++;
        unlock_bin();
        break;
      }
    struct moving *m = &guest.moving[guest.n];
    lock_bin();
    for (unsigned w = 0; w < slab_words(guest.slab); w++) m->lived[w] = ~guest.slab->free[w];
    CU_ASSERT_TRUE_FATAL(mesh_fits(guest.slab, f, 1, host, f));
    m->run = mesh_attach(&bins[size_class], guest.slab, f, 1, host, f);
    unlock_bin();
    CU_ASSERT_PTR_NOT_NULL_FATAL(m->run);
    guest.n++;
    guest.busy |= (uint32_t)1 << f;
    made++;
  }
  CU_ASSERT_TRUE(made >= 6);
  put_guest_back(true, false);
  CU_ASSERT_TRUE(all_intact());
  CU_ASSERT_TRUE(bin_consistent(size_class));
  /* What the free of the last object does. */
  struct slab *gone[RUNS];
  unsigned ngone = 0;
  enum slab_verdict verdict = SLAB_OK;
  for (size_t i = nobjects; i-- > 0;)
    if (objects[i].p == last.p) objects[i] = objects[--nobjects];
  lock_bin();
  struct slab *of_last = slab_of(last.p);
  bins[size_class].free_slots +=
      mesh_put(&bins[size_class], of_last, last.p, &verdict, gone, &ngone);
  struct slab *empty = bin_settle(&bins[size_class], of_last);
  if (empty != NULL) gone[ngone++] = empty;
  unlock_bin();
  CU_ASSERT_EQUAL(verdict, SLAB_OK);
  CU_ASSERT_TRUE(ngone >= made + 1);
  CU_ASSERT_TRUE(ngone <= MESH_GONE_MAX);
  destroy(gone, ngone);
  CU_ASSERT_TRUE(all_intact());
  everything_goes();
  end();
}

/* The guest lives on in one host while the other goes and its memory is used again. */
static void a_dead_run_does_not_keep_its_host(void) {
  static struct slab *slabs[4];
  begin(PAIR_SIZE);
  get_objects(3 * PAIR_SLOTS);
  CU_ASSERT_EQUAL_FATAL(all_slabs(slabs, 4), 3);
  keep_slot(slabs[0], 1);
  keep_slot(slabs[1], 1);
  for (size_t i = nobjects; i-- > 0;) { /* one at either end */
    void *p = objects[i].p;
    if (slab_of(p) == slabs[2] && p != at_slot(slabs[2], 3) && p != at_slot(slabs[2], 160))
      put_object(i);
  }
  make_host(slabs[0]);
  make_host(slabs[1]);
  CU_ASSERT_EQUAL_FATAL(slab_isolate(slabs[2], slabs[2]->pfn), OWNER_DONE);
  guest.slab = slabs[2];
  guest.n = guest.busy = 0;
  for (unsigned k = 0; k < 2; k++) {
    struct moving *m = &guest.moving[k];
    lock_bin();
    for (unsigned w = 0; w < slab_words(guest.slab); w++) m->lived[w] = ~guest.slab->free[w];
    m->run = mesh_attach(&bins[size_class], guest.slab, 4 * k, 4, slabs[k], 4 * k);
    unlock_bin();
    CU_ASSERT_PTR_NOT_NULL_FATAL(m->run);
    guest.n++;
  }
  put_guest_back(true, false);
  CU_ASSERT_TRUE(all_intact());
  void *first_end = at_slot(slabs[2], 3), *of_host = at_slot(slabs[0], 1);
  for (size_t i = nobjects; i-- > 0;)
    if (objects[i].p == first_end || objects[i].p == of_host) put_object(i);
  (void)bin_trim(true);
  CU_ASSERT_EQUAL(bins[size_class].nslabs, 2);
  CU_ASSERT_TRUE(mesh_consistent(slabs[2]));
  CU_ASSERT_TRUE(all_intact());
  get_objects(4 * PAIR_SLOTS); /* the host's frames too */
  CU_ASSERT_TRUE(all_intact());
  CU_ASSERT_TRUE(bin_consistent(size_class));
  everything_goes();
  end();
}

/* ---- while others free ---- */

static struct object *to_free;
static size_t nto_free;
static uint32_t freeing, freed;

/* Touches no object: in the fake nobody is made to wait for one. */
static void *freer(unused void *arg) {
  while (!load_acquire(&freeing)) cpu_relax();
  for (size_t i = 0; i < nto_free; i++) bin_free_now(size_class, to_free[i].p);
  store_release(&freed, 1);
  return NULL;
}

/* Slabs are chosen, moved and settled while their objects go: none of those that stay is touched.
 */
static void frees_meanwhile(size_t object_size, struct random *r) {
  pthread_t thread;
  begin(object_size);
  make_sparse(r, 100, size_min(size_classes[size_class].nslots / 3, 60));
  for (size_t i = nobjects; i > 1; i--) { /* those that go last, in any order */
    size_t k = random_below(r, i);
    struct object o = objects[k];
    objects[k] = objects[i - 1];
    objects[i - 1] = o;
  }
  nto_free = nobjects / 2;
  nobjects -= nto_free;
  to_free = objects + nobjects;
  freeing = freed = 0;
  CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, freer, NULL), 0);
  struct migration m = migration();
  store_release(&freeing, 1);
  while (!load_acquire(&freed)) migrate_all(&m);
  pthread_join(thread, NULL);
  migrate_all(&m);
  if (!all_intact()) printf("%zu bytes: contents\n", size);
  CU_ASSERT_TRUE(all_intact());
  CU_ASSERT_TRUE(bin_consistent(size_class));
  get_objects(nobjects / 2);
  CU_ASSERT_TRUE(all_intact());
  everything_goes();
  end();
}

static void others_free_while_it_moves(void) {
  struct random r = {test_seed()};
  for (uint64_t round = 0; round < test_steps(30000) / 300; round++)
    frees_meanwhile(sizes[random_below(&r, 8)], &r);
}

static const struct unit_test tests[] = {
    {"books_hold_step_by_step", books_hold_step_by_step},
    {"migration_loses_nothing", migration_loses_nothing},
    {"short_lifts_lose_nothing", short_lifts_lose_nothing},
    {"a_pinned_page_ends_a_host_of_many_lifts", a_pinned_page_ends_a_host_of_many_lifts},
    {"freed_slots_of_guests_are_their_hosts", freed_slots_of_guests_are_their_hosts},
    {"a_pair_has_names_for_its_parts", a_pair_has_names_for_its_parts},
    {"the_last_object_takes_the_guest_along", the_last_object_takes_the_guest_along},
    {"a_host_stays_for_its_guest", a_host_stays_for_its_guest},
    {"frames_that_can_not_be_remapped_are_given_up", frames_that_can_not_be_remapped_are_given_up},
    {"misuse_is_told", misuse_is_told},
    {"misuse_is_told_after_a_freeze", misuse_is_told_after_a_freeze},
    {"one_free_empties_many_slabs", one_free_empties_many_slabs},
    {"a_dead_run_does_not_keep_its_host", a_dead_run_does_not_keep_its_host},
    {"others_free_while_it_moves", others_free_while_it_moves},
    {0},
};

int main(void) { return zone_unit_main("mesh", tests); }
