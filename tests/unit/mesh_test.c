/* Meshing: its bookkeeping against a model, pairs laid out by hand, misuse of slots that are
 * shared. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "page/zone.h"
#include "slab/mesh.h"
#include "slab/pin.h"
#include "tests/unit/check.h"
#include "tests/unit/child.h"
#include "tests/unit/meshing.h"

enum { PAIR_SIZE = 192, PAIR_SLOTS = 170 };

/* ---- bookkeeping, step by step ---- */

enum { RUNS = 32, SLABS = SLABS_MOST };

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
  if (bins[object_class].nblocked != nblocked) wrong = "count of blocked slots";
  if (bins[object_class].nslabs != n) wrong = "count of slabs";
  if (taken - nblocked != nobjects) wrong = "taken slots are not the objects";
  if (!bin_consistent(object_class)) wrong = "bin_consistent";
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
    size_t a = size_max(slot * object_bytes, begin), b = size_min((slot + 1) * object_bytes, end);
    memcpy(to + (a - begin), from + a, b - a);
  }
}

static void lock_bin(void) { lock_acquire(&bins[object_class].lock); }
static void unlock_bin(void) { lock_release(&bins[object_class].lock); }

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
    mesh_settle(&bins[object_class], run, m.lived, gone, &ngone);
  else
    mesh_detach(&bins[object_class], run, m.lived, gone, &ngone);
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

static bool fits(unsigned first, unsigned n, const struct slab *host, unsigned at) {
  struct mesh_needs needs;
  mesh_look(guest.slab, first, n, &needs);
  return mesh_fits(&needs, host, at);
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
  if (!mesh_same_phase(object_class, first, at)) return;
  if (!zone_is_home(pfn_add(host->pfn, at), n)) return;
  struct moving *m = &guest.moving[guest.n];
  lock_bin();
  if (fits(first, n, host, at)) {
    for (unsigned w = 0; w < slab_words(guest.slab); w++) m->lived[w] = ~guest.slab->free[w];
    m->run = mesh_attach(&bins[object_class], guest.slab, first, n, host, at);
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
  if (bins[object_class].guests != NULL) wrong = "guests after thawing";
  if (bins[object_class].nblocked != 0) wrong = "blocked for nobody";
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
    fill_object(&objects[i]);
  }
}

static void step(struct random *r, size_t least) {
  static struct slab *slabs[SLABS], *hosts_now[SLABS];
  size_t n = all_slabs(slabs, SLABS), nhosts = 0;
  for (size_t i = 0; i < n; i++)
    if (zone_has_home(slabs[i]->pfn, slabs[i]->nframes)) hosts_now[nhosts++] = slabs[i];
  struct slab *slab = n == 0 ? NULL : slabs[random_below(r, n)];
  if (n < 8 && random_below(r, 16) == 0) { /* what is left has gathered in a few slabs */
    get_objects(8u * size_classes[object_class].nslots);
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
  meshing_begin(object_size);
  /* Few enough in each slab for two to fit together. */
  size_t per_slab = size_classes[object_class].nslots, least = size_min(2 * per_slab, 60);
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
  if (wrong != NULL) printf("%zu bytes: %s\n", object_bytes, wrong);
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
  CU_ASSERT_EQUAL(bins[object_class].nblocked, 0);
  meshing_end();
}

static void books_hold_step_by_step(void) {
  struct random r = {test_seed()};
  uint64_t steps = test_steps(30000) / 10; /* each is followed by a check of all */
  settled = detached = mixed = 0;
  for (unsigned i = 0; i < MESHING_SIZES; i++) books_hold(meshing_sizes[i], &r, steps);
  printf("%u runs settled, %u given up, %u guests became hosts too\n", settled, detached, mixed);
  CU_ASSERT_TRUE(settled >= steps / 20 && detached >= steps / 100 && mixed >= steps / 1000);
}

/* ---- two slabs, laid out by hand ---- */

static struct slab *pair_host, *pair_guest;
static void *in_host, *in_guest;
static unsigned host_slot, guest_slot;

static void *at_slot(const struct slab *slab, unsigned slot) {
  return (char *)slab_addr(slab) + slot * object_bytes;
}

/* Leaves the object of one slot of a slab. */
static void keep_slot(const struct slab *slab, unsigned slot) {
  for (size_t i = nobjects; i-- > 0;)
    if (slab_of(objects[i].p) == slab && objects[i].p != at_slot(slab, slot)) put_object(i);
}

/* A host with one object of its own, and a guest with one that lives in the host's memory. */
static void make_pair(unsigned of_host, unsigned of_guest) {
  static struct slab *slabs[2];
  meshing_begin(PAIR_SIZE);
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
  CU_ASSERT_EQUAL(bins[object_class].nblocked, 1);
  CU_ASSERT_EQUAL(zone_backing(arena_pfn(in_guest)), ZONE_GUEST);
  CU_ASSERT_EQUAL(zone_frame_of(arena_pfn(in_guest)).n, arena_pfn(in_host).n);
  everything_goes();
  meshing_end();
}

static void the_last_object_takes_the_guest_along(void) {
  make_pair(9, 5);
  put_object(objects[0].p == in_guest ? 0 : 1);
  CU_ASSERT_EQUAL(zone_now().guest, 0);
  CU_ASSERT_EQUAL(bins[object_class].nslabs, 1);
  CU_ASSERT_EQUAL(bins[object_class].nblocked, 0);
  CU_ASSERT_FALSE(slab_slot_is_free(pair_host, host_slot));
  CU_ASSERT_TRUE(slab_slot_is_free(pair_host, guest_slot));
  CU_ASSERT_TRUE(all_intact());
  everything_goes();
  meshing_end();
}

/* A host in which nothing of its own lives any more stays for its guest's sake. */
static void a_host_stays_for_its_guest(void) {
  make_pair(9, 5);
  put_object(objects[0].p == in_host ? 0 : 1);
  (void)bin_trim(true);
  CU_ASSERT_EQUAL(bins[object_class].nslabs, 2);
  CU_ASSERT_EQUAL(zone_now().home, pair_host->nframes);
  CU_ASSERT_TRUE(all_intact());
  get_objects(PAIR_SLOTS - 1); /* all of the host but the guest's slot */
  for (size_t i = 0; i < nobjects; i++)
    CU_ASSERT_PTR_EQUAL(slab_of(objects[i].p), objects[i].p == in_guest ? pair_guest : pair_host);
  CU_ASSERT_TRUE(all_intact());
  everything_goes();
  meshing_end();
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
  CU_ASSERT_EQUAL(bins[object_class].nslabs, 1);
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
  meshing_end();
}

/* ---- misuse ---- */

static void *victim;

static void leave(const void *p, enum bin_misuse what) { _exit(p == victim ? 10 + (int)what : 9); }
static void free_victim(void) { bin_free_now(object_class, victim); }

static void free_victim_twice(void) {
  bin_free_now(object_class, victim);
  bin_free_now(object_class, victim);
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
  CU_ASSERT_EQUAL(bin_check(object_class, in_host), SLAB_OK);
  CU_ASSERT_EQUAL(bin_check(object_class, in_guest), SLAB_OK);
  CU_ASSERT_EQUAL(bin_check(object_class, blocked), SLAB_DOUBLE_FREE);
  CU_ASSERT_EQUAL(bin_check(object_class, (char *)blocked + 8), SLAB_INTERIOR);
  bin_misuse_handler = before;
  everything_goes();
  meshing_end();
}

static void misuse_is_told(void) { check_misuse(false); }
static void misuse_is_told_after_a_freeze(void) { check_misuse(true); }

/* ---- hosts that go while their guest stays ---- */

/* A slot of 22528 bytes touches seven frames: cut into short runs it lies in as many hosts as there
 * are runs. All of these may become empty by one free. */
static void one_free_empties_many_slabs(void) {
  enum { SIZE = 22528, HOSTS = 7, FIRST = 5 };
  static struct slab *slabs[16];
  meshing_begin(SIZE);
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
        unsigned put = mesh_put(&bins[object_class], host, p, &verdict, gone, &ngone);
        bins[object_class].free_slots += put;
        bin_list_remove(&bins[object_class], host);
        bin_list_add(&bins[object_class], host);
        bins[object_class].nempty++;
        unlock_bin();
        break;
      }
    struct moving *m = &guest.moving[guest.n];
    lock_bin();
    for (unsigned w = 0; w < slab_words(guest.slab); w++) m->lived[w] = ~guest.slab->free[w];
    CU_ASSERT_TRUE_FATAL(fits(f, 1, host, f));
    m->run = mesh_attach(&bins[object_class], guest.slab, f, 1, host, f);
    unlock_bin();
    CU_ASSERT_PTR_NOT_NULL_FATAL(m->run);
    guest.n++;
    guest.busy |= (uint32_t)1 << f;
    made++;
  }
  CU_ASSERT_TRUE(made >= 6);
  put_guest_back(true, false);
  CU_ASSERT_TRUE(all_intact());
  CU_ASSERT_TRUE(bin_consistent(object_class));
  /* What the free of the last object does. */
  struct slab *gone[RUNS];
  unsigned ngone = 0;
  enum slab_verdict verdict = SLAB_OK;
  for (size_t i = nobjects; i-- > 0;)
    if (objects[i].p == last.p) objects[i] = objects[--nobjects];
  lock_bin();
  struct slab *of_last = slab_of(last.p);
  bins[object_class].free_slots +=
      mesh_put(&bins[object_class], of_last, last.p, &verdict, gone, &ngone);
  struct slab *empty = bin_settle(&bins[object_class], of_last);
  if (empty != NULL) gone[ngone++] = empty;
  unlock_bin();
  CU_ASSERT_EQUAL(verdict, SLAB_OK);
  CU_ASSERT_TRUE(ngone >= made + 1);
  CU_ASSERT_TRUE(ngone <= MESH_GONE_MAX);
  destroy(gone, ngone);
  CU_ASSERT_TRUE(all_intact());
  everything_goes();
  meshing_end();
}

/* The guest lives on in one host while the other goes and its memory is used again. */
static void a_dead_run_does_not_keep_its_host(void) {
  static struct slab *slabs[4];
  meshing_begin(PAIR_SIZE);
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
    m->run = mesh_attach(&bins[object_class], guest.slab, 4 * k, 4, slabs[k], 4 * k);
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
  CU_ASSERT_EQUAL(bins[object_class].nslabs, 2);
  CU_ASSERT_TRUE(mesh_consistent(slabs[2]));
  CU_ASSERT_TRUE(all_intact());
  get_objects(4 * PAIR_SLOTS); /* the host's frames too */
  CU_ASSERT_TRUE(all_intact());
  CU_ASSERT_TRUE(bin_consistent(object_class));
  everything_goes();
  meshing_end();
}

static const struct unit_test tests[] = {
    {"books_hold_step_by_step", books_hold_step_by_step},
    {"a_pair_has_names_for_its_parts", a_pair_has_names_for_its_parts},
    {"the_last_object_takes_the_guest_along", the_last_object_takes_the_guest_along},
    {"a_host_stays_for_its_guest", a_host_stays_for_its_guest},
    {"frames_that_can_not_be_remapped_are_given_up", frames_that_can_not_be_remapped_are_given_up},
    {"misuse_is_told", misuse_is_told},
    {"misuse_is_told_after_a_freeze", misuse_is_told_after_a_freeze},
    {"one_free_empties_many_slabs", one_free_empties_many_slabs},
    {"a_dead_run_does_not_keep_its_host", a_dead_run_does_not_keep_its_host},
    {0},
};

int main(void) { return zone_unit_main("mesh", tests); }
