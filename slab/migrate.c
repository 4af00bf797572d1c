/* A slab's part in compaction: the operations of an owner.
 *
 * Theory. isolate takes a slab out of its bin's lists, so that nothing is handed out of it; what is
 * freed meanwhile only flips bits. Two things are done with it:
 *
 *   hollow  frames in which nothing lives are discarded
 *   mesh    runs of frames are mapped onto hosts: reserved under the bin's lock (mesh_attach),
 * moved without it (page/mover.h), settled under it again
 *
 * put_back ends it: into the bin's lists again, or among the guests. A run is as long as a host is
 * found for: all of the slab's frames, else halves, down to the shortest that pays.
 *
 * Between reserving and settling hosts go on serving; the slots reserved are not theirs to hand
 * out. Copying reads what lived when the run was reserved: its contents stand still, since the
 * frames are out of reach by then, and nobody else writes to those slots of the host. */
#include "slab/migrate.h"

#include <errno.h>
#include <string.h>

#include "arch/sys.h"
#include "page/compact.h"
#include "page/hugepage.h"
#include "page/mover.h"
#include "slab/mesh.h"

enum {
  SKIP_ATTEMPTS = 8,
  MIXED_TENTHS = 4,
  LEAST_LIKELY = 12,
  RUNS_MAX = 32,
  TRIES_MAX = 4000,
  AHEAD = 6,
  LOOKS = 64, /* hosts that are looked at while others wait for the lock */
  GONE_MAX = RUNS_MAX + MESH_GONE_MAX
};

/* ---- isolate and put back ---- */

static void list_push(struct slab **head, struct slab *slab) {
  slab->prev = NULL;
  slab->next = *head;
  if (*head != NULL) (*head)->prev = slab;
  *head = slab;
}

static void list_take(struct slab **head, struct slab *slab) {
  if (slab->next != NULL) slab->next->prev = slab->prev;
  if (slab->prev != NULL)
    slab->prev->next = slab->next;
  else
    *head = slab->next;
}

static bool still_owns(const struct slab *slab, pfn_t pfn) {
  memdesc_t d = memmap_peek(pfn);
  return memdesc_type(d) == MEMDESC_SLAB && memdesc_owner(d) == slab;
}

static uint32_t mapped_frames(const struct slab *slab) {
  return slab->mesh == NULL ? 0 : slab->mesh->mapped;
}

/* Hosts stay, and so does what a fork froze. A guest may have more of its frames mapped. */
static bool may_leave(const struct slab *slab) {
  uint32_t mapped = mapped_frames(slab);
  if (slab->mesh != NULL && (slab->mesh->as_host != 0 || slab->mesh->home != 0)) return false;
  if (mapped == 0) return zone_is_plain(slab->pfn, slab->nframes);
  return zone_backing(pfn_add(slab->pfn, (size_t)__builtin_ctz(mapped))) == ZONE_GUEST;
}

static enum owner_verdict take_out(struct bin *bin, struct slab *slab) {
  if (slab->pins != 0) return OWNER_PINNED;
  if (slab->skip > 0) {
    slab->skip--;
    return OWNER_BUSY;
  }
  if (!may_leave(slab)) return OWNER_NEVER;
  switch (slab->state) {
  case SLAB_PARTIAL:
    bin_list_remove(bin, slab);
    if (slab_is_empty(slab)) bin->nempty--;
    break;
  case SLAB_GUEST:
    list_take(&bin->guests, slab);
    break;
  default:
    return OWNER_BUSY;
  }
  slab->state = SLAB_ISOLATED;
  memmap_flag(slab->pfn, slab->nframes, MEMDESC_ISOLATED, true);
  list_push(&bin->isolated, slab);
  return OWNER_DONE;
}

enum owner_verdict slab_isolate(void *owner, pfn_t pfn) {
  struct slab *slab = owner;
  unsigned size_class = load_relaxed(&slab->size_class);
  if (!class_is_slab(size_class)) return OWNER_BUSY;
  struct bin *bin = bin_of(slab, size_class);
  lock_acquire(&bin->lock);
  bool same =
      slab->size_class == size_class && bin_of(slab, size_class) == bin && still_owns(slab, pfn);
  enum owner_verdict verdict = same ? take_out(bin, slab) : OWNER_BUSY;
  lock_release(&bin->lock);
  return verdict;
}

void slab_put_back(void *owner) {
  struct slab *slab = owner, *gone = NULL;
  struct bin *bin = bin_of(slab, slab->size_class);
  lock_acquire(&bin->lock);
  list_take(&bin->isolated, slab);
  memmap_flag(slab->pfn, slab->nframes, MEMDESC_ISOLATED, false);
  if (mesh_is_guest(slab)) {
    slab->state = SLAB_GUEST;
    list_push(&bin->guests, slab);
    if (slab_is_empty(slab)) gone = mesh_leave(bin, slab);
  } else if (slab->nfree == 0) {
    slab->state = SLAB_FULL;
    bin->nfull++;
  } else {
    slab->state = SLAB_PARTIAL;
    bin_list_add(bin, slab);
    if (slab_is_empty(slab)) {
      bin_list_remove(bin, slab);
      bin_forget_slab(bin, slab);
      gone = slab;
    }
  }
  lock_release(&bin->lock);
  if (gone != NULL) bin_destroy_slab(gone);
}

/* ---- after a fork ---- */

static bool is_frozen(const struct slab *slab) {
  uint32_t mapped = mapped_frames(slab);
  return mapped != 0 &&
         zone_backing(pfn_add(slab->pfn, (size_t)__builtin_ctz(mapped))) == ZONE_FROZEN;
}

/* One guest whose frames are its own again, to be an ordinary slab; NULL when there is none. */
static bool thaw_one(struct bin *bin) {
  struct slab *gone[GONE_MAX], *slab;
  unsigned ngone = 0;
  lock_acquire(&bin->lock);
  for (slab = bin->guests; slab != NULL && !is_frozen(slab); slab = slab->next) {
  }
  if (slab != NULL) {
    list_take(&bin->guests, slab);
    mesh_thaw(bin, slab, gone, &ngone);
    slab->state = slab->nfree == 0 ? SLAB_FULL : SLAB_PARTIAL;
    if (slab->nfree == 0)
      bin->nfull++;
    else
      bin_list_add(bin, slab);
  }
  lock_release(&bin->lock);
  while (ngone > 0) bin_destroy_slab(gone[--ngone]);
  return slab != NULL;
}

void slab_thaw_all(void) {
  for (unsigned c = 0; c < SLAB_CLASSES; c++)
    for (unsigned node = 0; node < numa.count; node++)
      while (thaw_one(bin_at(node, c))) {
      }
}

uint64_t slab_dirty(void *owner) {
  struct slab *slab = owner;
  struct bin *bin = bin_of(slab, slab->size_class);
  lock_acquire(&bin->lock);
  uint32_t dirty = slab_live_frames(slab);
  lock_release(&bin->lock);
  return dirty;
}

/* ---- frames in which nothing lives ---- */

static uint32_t mask_of(unsigned first, unsigned n) {
  return (uint32_t)((((uint64_t)1 << n) - 1) << first);
}

/* Length of the run of set bits at `at`. */
static unsigned run_at(uint32_t mask, unsigned at) {
  uint32_t rest = ~(mask >> at);
  return rest == 0 ? 32 - at : (unsigned)__builtin_ctz(rest);
}

static void now_hollow(struct slab *slab, uint32_t frames) {
  frames &= ~slab->holes;
  if (frames == 0) return;
  frames_hollow(slab->pfn, frames);
  slab->holes |= frames;
}

/* The kernel was asked to fill them. */
static void now_filled(struct slab *slab, uint32_t frames) {
  frames &= slab->holes;
  if (frames == 0) return;
  frames_fill(slab->pfn, frames);
  slab->holes &= ~frames;
}

/* System pages larger than frames are left whole. */
static void hollow(struct slab *slab, struct migration *m) {
  uint32_t idle = ~(uint32_t)slab_dirty(slab) & slab_all_frames(slab) & ~slab->holes;
  uint32_t done = 0;
  if (sys_page_size() != FRAME_SIZE) return;
  for (uint32_t left = idle; left != 0;) {
    unsigned at = (unsigned)__builtin_ctz(left), n = run_at(left, at);
    pfn_t pfn = pfn_add(slab->pfn, at);
    if (zone_is_plain(pfn, n) && sys->discard(arena_addr(pfn), (size_t)n * FRAME_SIZE) == 0)
      done |= mask_of(at, n);
    left &= ~mask_of(at, n);
  }
  m->hollowed += (unsigned)__builtin_popcount(done);
  now_hollow(slab, done);
}

/* ---- choosing hosts ---- */

struct plan {
  struct slab *guest;
  struct bin *bin;
  struct host_list *hosts;
  struct mesh_run *runs[RUNS_MAX];
  unsigned nruns;
  unsigned longest;                 /* frames to be moved at once */
  uint64_t lived[SLAB_WORDS_LARGE]; /* the guest's taken slots when it was made */
  uint32_t live;                    /* frames with life that are not mapped yet */
};

/* The slab that begins at a frame that the engine found, if it is still one that may host: of the
 * guest's node, since they share a bin. */
static struct slab *host_at(uint32_t pfn, const struct slab *guest) {
  memdesc_t d = memmap_peek((pfn_t){pfn});
  if (memdesc_type(d) != MEMDESC_SLAB || memdesc_class(d) != guest->size_class) return NULL;
  struct slab *slab = memdesc_owner(d);
  if (slab->node != guest->node) return NULL;
  bool may = slab->state == SLAB_PARTIAL || slab->state == SLAB_GUEST;
  return slab->pfn.n == pfn && may ? slab : NULL;
}

static bool lived(const struct plan *plan, unsigned slot) {
  return plan->lived[slot / 64] >> slot % 64 & 1;
}

/* A run of the guest's frames for which a place is sought. */
struct want {
  unsigned first, n;
  unsigned nlive;  /* slots that live and touch it */
  unsigned period; /* places that begin alike are so many frames apart */
  unsigned room;   /* free slots that a host must have for there to be hope */
  struct mesh_needs needs;
};

/* 16 times the binary logarithm, linear between powers of two. */
static unsigned log2_16ths(unsigned x) {
  unsigned whole = 31 - (unsigned)__builtin_clz(x);
  return whole * 16 + (unsigned)(((uint64_t)x << 4 >> whole) & 15);
}

/* The least number of free slots with which there is hope that nlive of them are free just where
 * they are needed: if a host's lie at random, each is so with a probability of free / nslots. */
static unsigned least_room(unsigned nlive, unsigned nslots) {
  if (nlive == 0) return 1;
  int log = (int)log2_16ths(nslots) - 16 * LEAST_LIKELY / (int)nlive;
  if (log <= 0) return nlive;
  unsigned room = (unsigned)((((16 + (uint64_t)log % 16) << log / 16) + 15) / 16);
  return room > nlive ? room : nlive;
}

static struct mesh_run *place_on(struct plan *plan, const struct want *w, struct slab *host,
                                 unsigned *tries) {
  unsigned places = host->nframes - w->n + 1u, phase = w->first % w->period;
  unsigned at = w->first < places ? w->first : phase; /* its own place first */
  for (unsigned left = phase < places ? (places - phase + w->period - 1) / w->period : 0; left > 0;
       left--) {
    ++*tries;
    if (mesh_fits(&w->needs, host, at) && zone_is_home(pfn_add(host->pfn, at), w->n))
      return mesh_attach(plan->bin, plan->guest, w->first, w->n, host, at);
    at += w->period;
    if (at >= places) at = phase;
  }
  return NULL;
}

/* Of slots that touch the run's frames. */
static unsigned count_live(const struct plan *plan, unsigned first, unsigned n) {
  size_t size = class_size(plan->guest->size_class);
  unsigned from = (unsigned)((size_t)first * FRAME_SIZE / size), count = 0;
  unsigned to = (unsigned)(((size_t)(first + n) * FRAME_SIZE + size - 1) / size);
  if (to > plan->guest->nslots) to = plan->guest->nslots;
  for (unsigned slot = from; slot < to; slot++) count += lived(plan, slot);
  return count;
}

/* How far the search for a host has come. */
struct search {
  uint32_t next;
  unsigned tries;
};

static bool is_over(const struct search *s, const struct plan *plan) {
  return s->next >= plan->hosts->n || s->tries >= TRIES_MAX;
}

static void look_for(const struct plan *plan, unsigned first, unsigned n, struct want *w) {
  w->first = first;
  w->n = n;
  w->nlive = count_live(plan, first, n);
  w->period = mesh_period(plan->guest->size_class);
  w->room = least_room(w->nlive, plan->guest->nslots);
  mesh_look(plan->guest, first, n, &w->needs);
}

/* The next host that had room enough when it was looked at last: most have not, and these are
 * passed over without a look at their memory. Its place in the list; the list's end: none. */
static uint32_t next_with_room(const struct host_list *hosts, unsigned room, uint32_t at) {
  while (at < hosts->n && hosts->room[at] < room) at++;
  return at;
}

/* The hosts that come next are in no cache: their memdescs are fetched first, then what these point
 * to, while others are looked at. Half of a pass's time was waiting for them. */
static void fetch_ahead(const struct host_list *hosts, uint32_t at) {
  if (hosts->n - at <= 3 * AHEAD) return;
  __builtin_prefetch(&arena.memmap[hosts->pfn[at + 3 * AHEAD]]);
  const char *slab = memdesc_owner(memmap_peek((pfn_t){hosts->pfn[at + AHEAD]}));
  __builtin_prefetch(slab);
  __builtin_prefetch(slab + sizeof(struct slab));
}

/* Looks at some of the hosts. */
static struct mesh_run *place_run(struct plan *plan, unsigned first, unsigned n, struct search *s) {
  struct host_list *hosts = plan->hosts;
  struct want w;
  look_for(plan, first, n, &w);
  for (unsigned looks = 0; looks < LOOKS && !is_over(s, plan); looks++) {
    uint32_t at = next_with_room(hosts, w.room, s->next);
    s->next = at + 1;
    if (at == hosts->n) break;
    fetch_ahead(hosts, at);
    struct slab *host = host_at(hosts->pfn[at], plan->guest);
    hosts->room[at] = host == NULL ? 0 : host->nfree;
    if (hosts->room[at] < w.room || host == plan->guest) continue;
    struct mesh_run *run = place_on(plan, &w, host, &s->tries);
    hosts->room[at] = host->nfree;
    if (run != NULL) return run;
  }
  return NULL;
}

/* Under the lock. */
static void look_at_guest(struct plan *plan) {
  const struct slab *guest = plan->guest;
  for (unsigned w = 0; w < slab_words(guest); w++) plan->lived[w] = ~guest->free[w];
  plan->live = slab_live_frames(guest) & ~mapped_frames(guest);
}

/* Has anything been freed since the plan was made? Then it is made anew, or, if runs have been
 * reserved by it, left as it is: what a run blocks in its host must be known to the slot. */
static bool up_to_date(struct plan *plan) {
  const struct slab *guest = plan->guest;
  bool same = true;
  for (unsigned w = 0; w < slab_words(guest); w++) same = same && plan->lived[w] == ~guest->free[w];
  if (same) return true;
  if (plan->nruns > 0) return false;
  look_at_guest(plan);
  return plan->live != 0;
}

/* The lock is taken for each run, and for some hosts at a time, so that nobody waits for long. */
static bool place_one(struct plan *plan, unsigned first, unsigned n) {
  struct mesh_run *run = NULL;
  struct search s = {0};
  /* What lies between may be mapped already. */
  if ((mapped_frames(plan->guest) & mask_of(first, n)) != 0) return false;
  for (bool worth = true; run == NULL && worth && !is_over(&s, plan);) {
    lock_acquire(&plan->bin->lock);
    worth = up_to_date(plan) && (plan->live & mask_of(first, n)) != 0;
    if (worth) run = place_run(plan, first, n, &s);
    lock_release(&plan->bin->lock);
  }
  if (run == NULL) return false;
  plan->runs[plan->nruns++] = run;
  return true;
}

/* Does an object that lives lie on both sides of where this frame begins? */
static bool is_straddled(const struct plan *plan, unsigned frame) {
  size_t size = class_size(plan->guest->size_class), offset = (size_t)frame * FRAME_SIZE;
  unsigned slot = (unsigned)(offset / size);
  return slot < plan->guest->nslots && slot * size != offset && lived(plan, slot);
}

/* Where to part a run, in frames from its beginning: near the middle, and if possible not through
 * an object, since a slot of which the parts go to two hosts is taken in both. */
static unsigned part(const struct plan *plan, unsigned first, unsigned n, unsigned shortest) {
  unsigned middle = n / 2;
  for (unsigned d = 0; d <= middle; d++) {
    unsigned low = middle - d, high = middle + d;
    if (low >= shortest && low > 0 && !is_straddled(plan, first + low)) return low;
    if (high + shortest <= n && high < n && !is_straddled(plan, first + high)) return high;
  }
  return middle;
}

/* As one run, or in two parts; in any case in runs that may be moved at once. All of the slab
 * first, idle frames at its ends included: then it makes one mapping less, since its neighbours
 * begin where it ends. */
static void place(struct plan *plan, unsigned first, unsigned n, struct migration *m) {
  if (plan->nruns == RUNS_MAX || m->mappings_left <= plan->nruns) return;
  bool may = n <= plan->longest;
  if (may && n == plan->guest->nframes && place_one(plan, first, n)) return;
  while (n > 0 && !(plan->live >> first & 1)) first++, n--;
  while (n > 0 && !(plan->live >> (first + n - 1) & 1)) n--;
  may = n <= plan->longest;
  if (n == 0 || (may && place_one(plan, first, n))) return;
  if (n == 1 || (may && n / 2 < m->shortest)) return;
  unsigned front = part(plan, first, n, m->shortest);
  place(plan, first, front, m);
  place(plan, first + front, n - front, m);
}

static void make_plan(struct plan *plan, struct slab *guest, struct migration *m) {
  plan->guest = guest;
  plan->bin = bin_of(guest, guest->size_class);
  plan->hosts = &m->hosts[guest->size_class];
  plan->nruns = 0;
  plan->longest = lift_longest();
  lock_acquire(&plan->bin->lock);
  look_at_guest(plan);
  lock_release(&plan->bin->lock);
  if (plan->live != 0 && plan->hosts->n != 0) place(plan, 0, guest->nframes, m);
}

/* ---- moving ---- */

/* What lived, as far as it lies in the run's frames, to the host's. from: the first frame in
 * staging. */
static void copy_run(const struct plan *plan, const struct mesh_run *run, const struct lift *lift,
                     unsigned lift_first) {
  size_t size = class_size(plan->guest->size_class);
  size_t begin = (size_t)run->first * FRAME_SIZE, end = begin + (size_t)run->n * FRAME_SIZE;
  char *to = zone_view(pfn_add(run_host(run)->pfn, run->at));
  const char *from = lift->staging + (size_t)(run->first - lift_first) * FRAME_SIZE;
  unsigned first_slot, end_slot;
  run_slots(run, &first_slot, &end_slot);
  for (unsigned slot = first_slot; slot < end_slot; slot++) {
    if (!lived(plan, slot)) continue;
    size_t a = size_max(slot * size, begin), b = size_min((slot + 1) * size, end);
    memcpy(to + (a - begin), from + (a - begin), b - a);
  }
}

/* Settles a run, or gives its reservation up. */
static void finish_run(struct plan *plan, struct mesh_run *run, bool moved) {
  struct slab *gone[GONE_MAX];
  unsigned ngone = 0;
  lock_acquire(&plan->bin->lock);
  if (moved)
    mesh_settle(plan->bin, run, plan->lived, gone, &ngone);
  else
    mesh_detach(plan->bin, run, plan->lived, gone, &ngone);
  lock_release(&plan->bin->lock);
  while (ngone > 0) bin_destroy_slab(gone[--ngone]);
}

/* A part of the slab that is lifted at once; between its frames none is mapped yet. */
struct span {
  unsigned from, to;   /* the plan's runs in it */
  uint32_t home;       /* frames that are to be hosts at their own places */
  unsigned first, end; /* of its frames */
  uint32_t at_home;    /* of home, those that are it now */
  uint32_t back;       /* frames with life that keep their own memory */
  bool moved[RUNS_MAX];
};

static void map_runs(const struct plan *plan, struct span *s, struct lift *lift) {
  for (unsigned i = s->from; i < s->to; i++) {
    const struct mesh_run *run = plan->runs[i];
    copy_run(plan, run, lift, s->first);
    pfn_t at = pfn_add(run_host(run)->pfn, run->at);
    s->moved[i] = lift_map(lift, run->first - s->first, run->n, at) == 0;
    if (s->moved[i]) s->back &= ~mask_of(run->first, run->n);
  }
}

/* Of idle frames nothing is copied. */
static bool map_home(const struct plan *plan, struct lift *lift, unsigned lift_first, unsigned at,
                     unsigned n) {
  pfn_t pfn = pfn_add(plan->guest->pfn, at);
  const char *from = lift->staging + (size_t)(at - lift_first) * FRAME_SIZE;
  for (unsigned i = 0; i < n; i++)
    if (plan->live >> (at + i) & 1)
      memcpy(zone_view(pfn_add(pfn, i)), from + (size_t)i * FRAME_SIZE, FRAME_SIZE);
  if (lift_map(lift, at - lift_first, n, pfn) == 0) return true;
  zone_punch(pfn, n); /* the copies */
  return false;
}

static void map_homes(const struct plan *plan, struct span *s, struct lift *lift) {
  for (uint32_t left = s->home; left != 0;) {
    unsigned at = (unsigned)__builtin_ctz(left), n = run_at(left, at);
    if (map_home(plan, lift, s->first, at, n)) s->at_home |= mask_of(at, n);
    left &= ~mask_of(at, n);
  }
  s->back &= ~s->at_home;
}

/* Memory in the zone, from frame `to` on, for those of n frames of the guest in which something
 * lives: where there is none left this is an error here, but would be a signal once it is copied
 * to. */
static int fill(const struct plan *plan, unsigned first, unsigned n, pfn_t to) {
  int err = 0;
  for (uint32_t left = plan->live & mask_of(first, n); left != 0 && err == 0;) {
    unsigned at = (unsigned)__builtin_ctz(left), length = run_at(left, at);
    err = sys->populate(zone_view(pfn_add(to, at - first)), (size_t)length * FRAME_SIZE);
    left &= ~mask_of(at, length);
  }
  return err;
}

static int fill_targets(const struct plan *plan, const struct span *s) {
  int err = 0;
  for (unsigned i = s->from; i < s->to && err == 0; i++) {
    const struct mesh_run *run = plan->runs[i];
    err = fill(plan, run->first, run->n, pfn_add(run_host(run)->pfn, run->at));
  }
  for (uint32_t left = s->home; left != 0 && err == 0;) {
    unsigned at = (unsigned)__builtin_ctz(left), n = run_at(left, at);
    pfn_t pfn = pfn_add(plan->guest->pfn, at);
    err = fill(plan, at, n, pfn);
    left &= ~mask_of(at, n);
  }
  return err;
}

/* What was filled for nothing. What a host got it keeps: others may be writing there by now. */
static void empty_homes(const struct plan *plan, const struct span *s) {
  for (uint32_t left = s->home; left != 0;) {
    unsigned at = (unsigned)__builtin_ctz(left), n = run_at(left, at);
    zone_punch(pfn_add(plan->guest->pfn, at), n);
    left &= ~mask_of(at, n);
  }
}

static int move_memory(const struct plan *plan, struct span *s) {
  struct lift lift;
  if (s->home != 0 && zone_reach(plan->guest->pfn, plan->guest->nframes) != 0) s->home = 0;
  int err = fill_targets(plan, s);
  if (err == 0) err = lift_begin(&lift, pfn_add(plan->guest->pfn, s->first), s->end - s->first);
  if (err != 0) {
    empty_homes(plan, s);
    return err;
  }
  map_runs(plan, s, &lift);
  map_homes(plan, s, &lift);
  for (uint32_t left = s->back; left != 0;) {
    unsigned at = (unsigned)__builtin_ctz(left), n = run_at(left, at);
    lift_put_back(&lift, at - s->first, n);
    left &= ~mask_of(at, n);
  }
  lift_end(&lift);
  return 0;
}

/* The slab's books, after its memory. */
static void settle_span(struct plan *plan, const struct span *s, struct migration *m) {
  struct slab *guest = plan->guest;
  for (unsigned i = s->from; i < s->to; i++) {
    struct mesh_run *run = plan->runs[i];
    if (s->moved[i]) {
      m->runs++;
      m->meshed += (unsigned)__builtin_popcount(mask_of(run->first, run->n) & ~guest->holes);
    }
    finish_run(plan, run, s->moved[i]);
  }
  if (s->at_home == 0) return;
  bool was_host = guest->mesh->home != 0;
  lock_acquire(&plan->bin->lock);
  mesh_make_home(guest, s->at_home);
  unsigned room = guest->nfree;
  lock_release(&plan->bin->lock);
  if (was_host) return;
  host_list_add(plan->hosts, guest->pfn, room);
  m->hosts_made++;
}

/* Runs [from, to) of the plan, and frames that are to be hosts. */
static int move_span(struct plan *plan, unsigned from, unsigned to, uint32_t home,
                     struct migration *m) {
  struct span s = {.from = from, .to = to, .home = home};
  uint32_t span = home;
  for (unsigned i = from; i < to; i++) span |= mask_of(plan->runs[i]->first, plan->runs[i]->n);
  s.first = (unsigned)__builtin_ctz(span);
  s.end = 32 - (unsigned)__builtin_clz(span);
  uint32_t all = mask_of(s.first, s.end - s.first);
  s.back = plan->live & all;
  int err = move_memory(plan, &s);
  if (err != 0) {
    /* A page is pinned, or the program has changed the memory's ways (mlock, mprotect): not again
     * soon. */
    m->pinned += err == -EBUSY;
    plan->guest->skip = SKIP_ATTEMPTS;
    now_filled(plan->guest, all);
  }
  settle_span(plan, &s, m);
  /* What neither keeps its memory nor lives at home has none any more. */
  if (err == 0) now_hollow(plan->guest, all & ~s.back & ~(s.at_home & plan->live));
  return err;
}

static void sort_runs(struct plan *plan) {
  for (unsigned i = 1; i < plan->nruns; i++)
    for (unsigned k = i; k > 0 && plan->runs[k]->first < plan->runs[k - 1]->first; k--) {
      struct mesh_run *run = plan->runs[k];
      plan->runs[k] = plan->runs[k - 1];
      plan->runs[k - 1] = run;
    }
}

static uint32_t placed_frames(const struct plan *plan) {
  uint32_t placed = 0;
  for (unsigned i = 0; i < plan->nruns; i++)
    placed |= mask_of(plan->runs[i]->first, plan->runs[i]->n);
  return placed;
}

static unsigned first_frame(const struct plan *plan, unsigned from, uint32_t home) {
  unsigned first = home != 0 ? (unsigned)__builtin_ctz(home) : 32;
  return from < plan->nruns && plan->runs[from]->first < first ? plan->runs[from]->first : first;
}

/* The plan's runs and the frames that are to be hosts, from the lowest on, lift by lift: each as
 * long as others may be kept waiting, and none across what is mapped already. */
static void move_all(struct plan *plan, uint32_t home, struct migration *m) {
  uint32_t mapped = mapped_frames(plan->guest);
  sort_runs(plan);
  for (unsigned from = 0, to; from < plan->nruns || home != 0; from = to) {
    unsigned first = first_frame(plan, from, home), stop = first + plan->longest;
    stop = (unsigned)size_min(size_min(stop, first + run_at(~mapped, first)), 32);
    for (to = from; to < plan->nruns; to++) {
      unsigned end = plan->runs[to]->first + plan->runs[to]->n;
      if (end > stop && (to > from || plan->runs[to]->first > first)) break;
      if (end > stop) stop = end; /* longer than it should be by now */
    }
    if (to < plan->nruns && plan->runs[to]->first < stop) stop = plan->runs[to]->first;
    uint32_t at_home = home & mask_of(first, stop - first);
    home &= ~at_home;
    /* One that is refused a part is no host with the rest. */
    if (move_span(plan, from, to, at_home, m) != 0) home = 0;
  }
}

/* What fits nowhere: others may fit onto it. */
static void become_host(struct plan *plan, struct migration *m) {
  struct slab *slab = plan->guest;
  for (unsigned i = 0; i < plan->nruns; i++) finish_run(plan, plan->runs[i], false);
  plan->nruns = 0;
  lock_acquire(&plan->bin->lock);
  bool ok = mesh_prepare(slab);
  lock_release(&plan->bin->lock);
  if (ok) move_all(plan, slab_all_frames(slab), m);
}

/* Where mappings are plenty, a slab most of which fits is a guest with that and a host with the
 * rest; with few it is better a whole guest or a whole host, of one mapping. */
static void mesh(struct slab *guest, struct migration *m) {
  _Static_assert(MIXED_TENTHS < 10, "what is mixed has a run, and so records");
  struct plan plan;
  make_plan(&plan, guest, m);
  uint32_t rest = plan.live & ~placed_frames(&plan);
  unsigned live = (unsigned)__builtin_popcount(plan.live);
  unsigned unplaced = (unsigned)__builtin_popcount(rest);
  /* Of a slab that had a part before, the rest waits for another pass. */
  bool untouched = mapped_frames(guest) == 0;
  bool plenty = m->shortest == 1 && m->mappings_left > plan.nruns + unplaced;
  if (unplaced != 0 && untouched && plenty && unplaced * 10 <= live * MIXED_TENTHS) {
    move_all(&plan, rest, m);
  } else if (unplaced * 10 > live && untouched && m->mappings_left > 2) {
    become_host(&plan, m);
  } else {
    move_all(&plan, 0, m);
    m->unplaced += unplaced;
  }
}

_Static_assert((size_t)DIRECT_LEAST > COMPACT_SLOT_MAX, "memory for direct I/O is not meshed");

enum owner_verdict slab_migrate(void *owner, struct migration *m) {
  struct slab *slab = owner;
  size_t pinned = m->pinned;
  if (m->mesh && class_size(slab->size_class) <= COMPACT_SLOT_MAX) mesh(slab, m);
  hollow(slab, m);
  return m->pinned == pinned ? OWNER_DONE : OWNER_PINNED;
}
