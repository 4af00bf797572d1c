/* The compaction engine.
 *
 * Theory. A pass is one struct and goes through phases:
 *
 *   OWNED    who owns frames by callbacks is asked to empty the sparsest (page/owned.c)
 *   SCORE    every hugepage of slabs: how much lives in it, from its owners' own words
 *   CONVERT  the densest hugepages become the zone's: their slabs are hosts
 *   LIST     the hosts by class, and everybody else, the fullest first
 *   EMPTY    all others: each owner is isolated, migrated onto hosts as far as they fit, and put
 *            back; what fits nowhere becomes a host itself
 *   COLLAPSE hugepages of the zone get one page of memory each and are mapped by it
 *
 *   OWNED -> SCORE -> CONVERT -> LIST -> EMPTY -> COLLAPSE -> over
 *            EMPTY -> EMPTY, with shorter runs for what found no place
 *   without a zone: OWNED -> SCORE -> EMPTY -> over
 *
 * Whole hugepages of hosts are the aim, since they stay mapped by one entry, and as many are made
 * as would hold most of what lives, and more where mappings are few. But a hugepage has hosts of
 * many classes, and those of a class that has less to move than others would stay empty: none is
 * made of which half the room would be for such classes. What is left are classes of which they
 * hold too little; a lone host costs no memory but a mapping.
 *
 * CONVERT's scanner goes by the hugepages' score, in SCORE_LEVELS steps, from the densest down. So
 * does EMPTY's by the owners' fullness when it meshes, as who packs a box puts the bulky things in
 * first: the sparse ones fit into what is left; owners whose slots are too large to be moved come
 * last, to have their idle frames discarded. Without meshing it goes by hugepages, the sparsest
 * first, and needs no list. What refused (a pin, the kernel) is left alone for some passes (skip).
 *
 * Mappings are the scarce good. The shortest run worth one is chosen for each hugepage so that what
 * is left could be placed with the mappings that are left: with few of them only long runs are
 * mapped, which save more each.
 *
 * A thread that waits on a futex that is not private is found by the kernel by the page it waits
 * on, so frames on which one waits are left alone; they are looked for at the beginning of each
 * step.
 *
 * A hugepage is converted in pieces as short as the stall budget wants (lift_longest), so that
 * nobody waits for the copying of all of it: the pieces become one mapping again since their
 * offsets follow each other.
 *
 * Where the heap is divided by nodes of memory, the pass goes from SCORE on through one node's
 * hugepages after the other's: hosts and guests are of one node, and what is copied is allocated
 * there.
 *
 * Locks: a unit of work (one owner, one hugepage) holds the lock of discard passes, which comes
 * before the bins'. A fork freezes the zone between units. */
#include "page/compact.h"

#include <errno.h>
#include <string.h>

#include "arch/sys.h"
#include "arch/zone_sys.h"
#include "page/frames.h"
#include "page/hugepage.h"
#include "page/mover.h"
#include "page/owned.h"

enum {
  SCORE_LEVELS = 64,
  PIECE_MOST = 64,      /* frames of a hugepage that are converted at once */
  FILL_PERCENT = 85,    /* of a host hugepage that is expected to live in the end */
  HUGE_SHARE = 90,      /* per cent of the hosts thought to be needed that whole hugepages make, */
  HUGE_SHARE_FEW = 150, /* and where mappings are for half of the frames only */
  SPARSE_PERCENT = 60,  /* of a hugepage that live in it at most, to be worth emptying */
  UNPLACED_LEAST = 256, /* frames for which another round with shorter runs is made */
  LONGEST_RUN = 16,
  GUESTS_BETWEEN = 32, /* looks at how short runs may be */
  WAITERS_MAX = 64,    /* threads that wait where nothing may be moved */
  SKIP_PASSES = 8,
  DENSE_PERCENT = 75, /* an owner of whose slots more are taken finds no host */
  TRIES = 100,        /* looks at a frame that keeps changing hands */
};

enum phase { IDLE, OWNED, SCORE, CONVERT, LIST, EMPTY, COLLAPSE };

struct list_entry {
  uint32_t pfn;
  uint16_t room; /* free slots */
  uint8_t size_class, level, runs;
  bool small, home;
};

static struct compact_options options = {.map_share = 50, .stall_us = 200, .inherited = -1};

/* Goes through hugepages by score, level by level. */
struct scanner {
  unsigned level;
  uint32_t at;
};

static struct {
  enum phase phase;
  bool mesh;
  unsigned node; /* whose hugepages it is at */
  struct scanner hosts, sources;
  pfn_t pfn, end;                   /* frames of the hugepage that is being emptied */
  uint32_t at;                      /* hugepage, for phases that go through all */
  uint32_t wanted;                  /* hugepages to convert */
  unsigned share;                   /* per cent of the hosts needed that these are to make */
  uint32_t histogram[SCORE_LEVELS]; /* hugepages that are not the zone's, by score */
  uint32_t nsource;                 /* of these, still to be gone through */
  bool again;                       /* a round with shorter runs */
  uint64_t room_kib;                /* that the zone's hugepages are expected to have */
  size_t need[COMPACT_CLASSES];     /* bytes that live in sparse plain slabs of a class, */
  size_t room[COMPACT_CLASSES];     /* and for which its hosts have room, their own in new ones */
  size_t owned;                     /* frames that owners by callbacks emptied */
  struct migration m;
  struct host_list lists[COMPACT_CLASSES];
  uint32_t *guests; /* first frames of who is to be emptied (LIST); NULL: no list */
  uint32_t nguests, guest_at;
  size_t runs; /* that all who may be moved would take; in EMPTY, those that are left */
  uintptr_t waiters[WAITERS_MAX];
  unsigned nwaiters;
  void *scratch;
  size_t scratch_bytes;
} pass;

static struct compact_stats stats;

void compact_configure(const struct compact_options *o) {
  options = *o;
  lift_configure(o->stall_us);
}

bool compact_active(void) { return pass.phase != IDLE; }
size_t compact_gained(void) { return pass.m.meshed + pass.m.hollowed + pass.owned; }

/* ---- looking at owners ---- */

/* The owner of a frame and what it says of itself; false when there is none that may be asked. */
static bool look(pfn_t pfn, void **owner, const struct owner_ops **ops, struct owner_view *view) {
  for (int i = 0; i < TRIES; i++) {
    memdesc_t word = memmap_peek(pfn);
    if (!memdesc_is_allocation(word) && memdesc_type(word) != MEMDESC_OWNED) return false;
    *owner = memdesc_owner(word);
    *ops = owner_ops_of(*owner);
    if (*ops == NULL) return false;
    (*ops)->describe(*owner, view);
    fence_acquire();
    if (memmap_peek(pfn).word == word.word && view->nframes > 0 &&
        pfn.n - view->first.n < view->nframes + view->nguard)
      return true;
  }
  return false;
}

static size_t live_bytes(const struct owner_view *view) {
  return (view->slots - view->free_slots) * view->object_size;
}

/* Calls fn for each owner in the hugepage, until it says no. */
static bool each_owner(hpn_t hpn, bool (*fn)(pfn_t, const struct owner_view *, void *), void *arg) {
  pfn_t pfn = hugepage_pfn(hpn), end = pfn_add(pfn, HUGEPAGE_FRAMES);
  while (pfn.n < end.n) {
    struct owner_view view;
    const struct owner_ops *ops;
    void *owner;
    size_t n = 1;
    if (look(pfn, &owner, &ops, &view)) {
      if (!fn(pfn, &view, arg)) return false;
      n = view.first.n + view.nframes + view.nguard - pfn.n;
    }
    pfn = pfn_add(pfn, n);
  }
  return true;
}

/* ---- SCORE ---- */

static bool is_zone(const struct hugepage *hp) { return (hp->flags & HUGEPAGE_ZONE) != 0; }

/* Racy, as all of this: what it finds is looked at again under locks before anything is done. */
static bool is_candidate(const struct hugepage *hp) {
  uint8_t state = load_relaxed(&hp->state);
  if (load_relaxed(&hp->node) != pass.node) return false;
  return (state == HUGEPAGE_PARTIAL || state == HUGEPAGE_FULL) && hp->skip == 0;
}

/* May what this owner has be moved, or host others? */
static bool is_small(const struct owner_view *view) {
  return view->slots != 0 && view->object_size <= COMPACT_SLOT_MAX;
}

/* What a slab's frames have that are not plain; idle ones stay so, whatever becomes of the others.
 */
static enum zone_backing backing_of(const struct owner_view *view) {
  enum zone_backing backing = ZONE_PLAIN;
  for (size_t i = 0; i < view->nframes && backing == ZONE_PLAIN; i++)
    backing = zone_backing(pfn_add(view->first, i));
  return backing;
}

/* Mappings that it would take to empty it: where most frames hold something a run is of two frames
 * by experience, and where few do none is without an object. Who is a host, a guest or frozen has
 * what it takes. */
static size_t runs_of(const struct owner_view *view) {
  size_t taken = view->slots - view->free_slots;
  size_t touched = taken * (FRAME_SIZE + view->object_size) / FRAME_SIZE;
  if (!is_small(view) || !zone_is_plain(view->first, view->nframes)) return 0;
  return size_min((view->nframes + 1) / 2, touched);
}

/* Full enough to be left as it is. */
static bool too_dense(const struct owner_view *view) {
  return view->slots == 0 ||
         (view->slots - view->free_slots) * 100 > view->slots * (size_t)DENSE_PERCENT;
}

/* Bytes of guests that this one is expected to take. */
static size_t room_of(const struct owner_view *view) {
  size_t full = view->slots * view->object_size * FILL_PERCENT / 100, live = live_bytes(view);
  return is_small(view) && full > live ? full - live : 0;
}

struct content {
  size_t live; /* that hugepages of hosts can have */
  size_t runs;
};

/* What lives in guests is counted in their hosts. */
static bool add_content(pfn_t pfn, const struct owner_view *view, void *arg) {
  struct content *content = arg;
  if (!is_small(view)) return true;
  enum zone_backing backing = backing_of(view);
  unsigned size_class = memdesc_class(memmap_peek(pfn));
  if (backing == ZONE_GUEST) return true;
  if (view->object_size <= COMPACT_HUGE_MAX) content->live += live_bytes(view);
  content->runs += runs_of(view);
  if (backing == ZONE_HOME) pass.room[size_class] += room_of(view);
  if (backing == ZONE_PLAIN && !too_dense(view)) pass.need[size_class] += live_bytes(view);
  return true;
}

static unsigned level_of(const struct hugepage *hp) {
  return hp->score * SCORE_LEVELS / (HUGEPAGE_SIZE / 1024 + 1u);
}

static void score(uint32_t n) {
  struct hugepage *hp = &arena.hugepages[n];
  struct content content = {0};
  if (load_relaxed(&hp->node) != pass.node) return;
  if (hp->skip > 0) hp->skip--;
  hp->score = 0;
  if (!is_candidate(hp)) return;
  (void)each_owner((hpn_t){n}, add_content, &content);
  hp->score = (uint16_t)size_min(content.live / 1024, HUGEPAGE_SIZE / 1024);
  unsigned full = HUGEPAGE_SIZE / 1024 * FILL_PERCENT / 100;
  if (is_zone(hp)) {
    pass.room_kib += hp->score < full ? full - hp->score : 0;
  } else if (hp->score > 0) {
    pass.histogram[level_of(hp)]++;
    pass.nsource++;
  }
  pass.runs += content.runs;
}

/* ---- CONVERT ---- */

static bool is_movable(unused pfn_t pfn, const struct owner_view *view, unused void *arg) {
  return is_small(view) && !view->pinned;
}

static bool convert_piece(pfn_t pfn, unsigned n) {
  struct lift lift;
  if (lift_begin(&lift, pfn, n) != 0) return false;
  memcpy(zone_view(pfn), lift.staging, (size_t)n * FRAME_SIZE);
  bool ok = lift_map(&lift, 0, n, pfn) == 0;
  if (!ok) lift_put_back(&lift, 0, n);
  lift_end(&lift);
  return ok;
}

/* What is the zone's can't be taken away again, so pieces that are done stay when a later one is
 * refused: such a hugepage has no hosts, and goes as others of the zone do. */
static bool convert_frames(hpn_t hpn) {
  pfn_t pfn = hugepage_pfn(hpn);
  unsigned done = 0, n;
  do {
    n = (unsigned)size_min(size_min(lift_longest(), PIECE_MOST), HUGEPAGE_FRAMES - done);
    if (!convert_piece(pfn_add(pfn, done), n)) break;
    done += n;
  } while (done < HUGEPAGE_FRAMES);
  return done > 0;
}

/* Does a thread wait in these frames in a way that ends with their memory? */
static bool is_waited_on(pfn_t pfn, size_t n) {
  uintptr_t from = (uintptr_t)arena_addr(pfn);
  for (unsigned i = 0; i < pass.nwaiters; i++)
    if (pass.waiters[i] - from < n * FRAME_SIZE) return true;
  return false;
}

/* Looked for anew in every step. False when too many wait to keep them all in mind, or it can't be
 * known: then nothing may be moved. */
static bool know_waiters(void) {
  pass.nwaiters = zone_sys->waiters(pass.waiters, WAITERS_MAX);
  return pass.nwaiters <= WAITERS_MAX;
}

/* True when the hugepage is the zone's now. */
static bool convert(hpn_t hpn) {
  struct hugepage *hp = &arena.hugepages[hpn.n];
  bool ok = false;
  frames_lock_discard();
  if (!is_waited_on(hugepage_pfn(hpn), HUGEPAGE_FRAMES) && frames_isolate(hpn)) {
    ok = each_owner(hpn, is_movable, NULL) && zone_populate(hpn) == 0 && convert_frames(hpn);
    if (!ok) {
      zone_punch(hugepage_pfn(hpn), HUGEPAGE_FRAMES);
      hp->skip = SKIP_PASSES;
      stats.refused++;
    } else {
      stats.converted++;
      pass.nsource--;
    }
    frames_restore(hpn, ok);
  }
  frames_unlock_discard();
  return ok;
}

/* The next hugepage at or after the scanner; downwards or upwards through the levels. */
static bool find_source(struct scanner *s, bool down, bool untouched) {
  for (;;) {
    for (; s->at < arena.opened; s->at++) {
      const struct hugepage *hp = &arena.hugepages[s->at];
      if (!is_candidate(hp) || is_zone(hp) || level_of(hp) != s->level) continue;
      if (!untouched || zone_is_plain(hugepage_pfn((hpn_t){s->at}), HUGEPAGE_FRAMES)) return true;
    }
    if (down ? s->level == 0 : s->level == SCORE_LEVELS - 1) return false;
    s->level += down ? -1u : 1u;
    s->at = 0;
  }
}

/* KiB that live in a hugepage of this level. */
static unsigned level_kib(unsigned level) {
  return level * (HUGEPAGE_SIZE / 1024 + 1) / SCORE_LEVELS;
}

/* Fuller hugepages have no room for guests. */
static unsigned fullest_host_level(void) {
  return HUGEPAGE_SIZE / 1024 * FILL_PERCENT / 100 * SCORE_LEVELS / (HUGEPAGE_SIZE / 1024 + 1u);
}

/* How many hosts are worth having: hugepages are taken from the sparse end as long as hosts have
 * room for what lives in them, and from the dense end to make room, until the two ends meet. */
static uint32_t hosts_needed(void) {
  const unsigned full = HUGEPAGE_SIZE / 1024 * FILL_PERCENT / 100;
  unsigned low = 0, high = fullest_host_level();
  uint64_t room = pass.room_kib, need = 0;
  uint32_t hosts = 0;
  for (;;) {
    while (low < high && pass.histogram[low] == 0) low++;
    while (high > low && pass.histogram[high] == 0) high--;
    if (low == high && pass.histogram[low] < 2) break;
    if (need <= room) {
      if (low * 100 > SCORE_LEVELS * SPARSE_PERCENT) break;
      need += level_kib(low);
      pass.histogram[low]--;
    } else {
      room += full - level_kib(high);
      pass.histogram[high]--;
      hosts++;
    }
  }
  return hosts;
}

static size_t mappings_allowed(void) {
  struct zone_stats zone;
  zone_stats(&zone);
  size_t most = zone.max_mappings * options.map_share / 100;
  return most > zone.mappings ? most - zone.mappings : 0;
}

/* With few mappings runs are long, so fewer of them fit onto a host: more hosts are needed than
 * room, and the lone ones that make up for it would each take mappings, too. */
static unsigned huge_share(void) {
  size_t runs = pass.runs, mappings = mappings_allowed();
  if (runs <= mappings) return HUGE_SHARE;
  if (runs >= 2 * mappings) return HUGE_SHARE_FEW;
  return HUGE_SHARE + (unsigned)((HUGE_SHARE_FEW - HUGE_SHARE) * (runs - mappings) / mappings);
}

struct offer {
  size_t room, needed;
};

/* Counts it as a host: its class has more room, and what lives in it needs none elsewhere. */
static bool add_offer(pfn_t pfn, const struct owner_view *view, void *arg) {
  struct offer *offer = arg;
  unsigned size_class = memdesc_class(memmap_peek(pfn));
  size_t room = room_of(view), need = pass.need[size_class] * pass.share / 100;
  pass.room[size_class] += too_dense(view) ? 0 : live_bytes(view);
  offer->room += room;
  if (need > pass.room[size_class]) offer->needed += size_min(need - pass.room[size_class], room);
  pass.room[size_class] += room;
  return true;
}

/* Counts the hugepage's slabs as hosts. True when most of the room that they bring would be filled:
 * what has none brings nothing. */
static bool brings_needed_room(hpn_t hpn) {
  struct offer offer = {0};
  (void)each_owner(hpn, add_offer, &offer);
  return offer.needed * 2 > offer.room;
}

static void begin_convert(void) {
  pass.phase = CONVERT;
  pass.share = huge_share();
  pass.hosts = (struct scanner){fullest_host_level(), 0};
  pass.wanted = (hosts_needed() * pass.share + 99) / 100;
}

/* False when the phase is over. */
static bool convert_next(void) {
  if (pass.wanted == 0 || pass.nsource < 2 || !find_source(&pass.hosts, true, true)) return false;
  hpn_t hpn = {pass.hosts.at++};
  size_t room[COMPACT_CLASSES];
  memcpy(room, pass.room, sizeof room);
  if (brings_needed_room(hpn) && convert(hpn))
    pass.wanted--;
  else
    memcpy(pass.room, room, sizeof room); /* they are none */
  return true;
}

/* ---- LIST ---- */

/* Owners of slots begin here? */
static bool begins(pfn_t pfn, const struct owner_view *view) {
  return view->slots != 0 && pfn.n == view->first.n;
}

/* By class: small ones may become hosts, and those of frames that are HOME are. */
static bool count_owner(pfn_t pfn, const struct owner_view *view, unused void *arg) {
  if (begins(pfn, view)) pass.lists[memdesc_class(memmap_peek(pfn))].most++;
  return true;
}

struct collect {
  struct list_entry *entries;
  size_t n, most;
};

static bool collect_owner(pfn_t pfn, const struct owner_view *view, void *arg) {
  struct collect *c = arg;
  if (!begins(pfn, view) || c->n == c->most) return true;
  c->entries[c->n++] = (struct list_entry){
      .pfn = pfn.n,
      .room = (uint16_t)size_min(view->free_slots, UINT16_MAX),
      .size_class = (uint8_t)memdesc_class(memmap_peek(pfn)),
      .level = (uint8_t)((view->slots - view->free_slots) * (SCORE_LEVELS - 1) / view->slots),
      .runs = (uint8_t)runs_of(view),
      .small = is_small(view),
      .home = zone_has_home(pfn, view->nframes),
  };
  return true;
}

static bool need_scratch(size_t bytes) {
  void *p;
  bytes = align_up(bytes, HUGEPAGE_SIZE);
  if (bytes <= pass.scratch_bytes) return true;
  if (pass.scratch != NULL) (void)sys->unreserve(pass.scratch, pass.scratch_bytes);
  pass.scratch = NULL;
  pass.scratch_bytes = 0;
  if (sys->reserve(bytes, &p) != 0) return false;
  if (sys->open_write(p, bytes) != 0) {
    (void)sys->unreserve(p, bytes);
    return false;
  }
  pass.scratch = p;
  pass.scratch_bytes = bytes;
  return true;
}

static void each_slab_hugepage(bool (*fn)(pfn_t, const struct owner_view *, void *), void *arg) {
  for (uint32_t n = 0; n < arena.opened; n++)
    if (is_candidate(&arena.hugepages[n])) (void)each_owner((hpn_t){n}, fn, arg);
}

static void add_to_list(const struct list_entry *e) {
  if (e->home) {
    host_list_add(&pass.lists[e->size_class], (pfn_t){e->pfn}, e->room);
  } else if (e->level * 100 <= SCORE_LEVELS * DENSE_PERCENT) {
    pass.guests[pass.nguests++] = e->pfn;
    pass.runs += e->runs;
  }
}

/* Lists have room for all owners of their class, since any can become a host. */
static bool make_lists(void) {
  struct collect c = {0};
  size_t total = 0;
  memset(pass.lists, 0, sizeof pass.lists);
  pass.runs = 0;
  each_slab_hugepage(count_owner, NULL);
  for (unsigned k = 0; k < COMPACT_CLASSES; k++) total += pass.lists[k].most;
  const size_t each = sizeof(struct list_entry) + 2 * sizeof(uint32_t) + sizeof(uint16_t);
  if (total == 0 || !need_scratch(total * each)) return false;
  c.entries = pass.scratch;
  c.most = total;
  each_slab_hugepage(collect_owner, &c);
  pass.guests = (uint32_t *)(c.entries + total);
  uint32_t *out = pass.guests + total;
  uint16_t *room = (uint16_t *)(out + total);
  for (unsigned k = 0; k < COMPACT_CLASSES; k++) {
    pass.lists[k].pfn = out;
    pass.lists[k].room = room;
    out += pass.lists[k].most;
    room += pass.lists[k].most;
  }
  for (int level = SCORE_LEVELS - 1; level >= 0; level--)
    for (size_t i = 0; i < c.n; i++)
      if (c.entries[i].small && c.entries[i].level == level) add_to_list(&c.entries[i]);
  for (size_t i = 0; i < c.n; i++)
    if (!c.entries[i].small) add_to_list(&c.entries[i]);
  return true;
}

/* ---- EMPTY ---- */

/* Most runs are longer than the shortest. */
static unsigned shortest_run(void) {
  size_t mappings = mappings_allowed();
  unsigned shortest = 1;
  while (shortest < LONGEST_RUN && pass.runs / shortest > mappings) shortest *= 2;
  return shortest;
}

static void begin_empty(void) {
  pass.phase = EMPTY;
  pass.sources = (struct scanner){0, 0};
  pass.pfn = pass.end = (pfn_t){0};
  pass.guest_at = 0;
  pass.m.hosts = pass.lists;
  pass.m.unplaced = 0;
}

/* One owner: the runs that it was thought to take. pfn goes to its end. */
static size_t empty_owner(pfn_t *pfn) {
  struct owner_view view;
  const struct owner_ops *ops;
  pfn_t from = *pfn;
  void *owner;
  *pfn = pfn_add(from, 1);
  if (!look(from, &owner, &ops, &view)) return 0;
  *pfn = pfn_add(view.first, view.nframes + view.nguard);
  size_t runs = runs_of(&view);
  if (too_dense(&view) || ops->migrate == NULL) return runs;
  if (pass.m.mesh && is_waited_on(view.first, view.nframes)) return runs;
  pass.m.mappings_left = pass.m.mesh ? mappings_allowed() : 0;
  frames_lock_discard();
  enum owner_verdict verdict = ops->isolate(owner, from);
  if (verdict == OWNER_DONE) {
    (void)ops->migrate(owner, &pass.m);
    ops->put_back(owner);
  } else if (verdict == OWNER_PINNED) {
    pass.m.pinned++;
  }
  frames_unlock_discard();
  return runs;
}

static bool empty_guest(void) {
  if (pass.guest_at == pass.nguests) return false;
  /* Again and again, by the mappings and the frames that are left. */
  if (pass.guest_at % GUESTS_BETWEEN == 0 && !pass.again) pass.m.shortest = shortest_run();
  pfn_t pfn = {pass.guests[pass.guest_at++]};
  pass.runs -= size_min(empty_owner(&pfn), pass.runs);
  return true;
}

/* False when the phase is over. */
static bool empty_next(void) {
  if (pass.guests != NULL) return empty_guest();
  if (pass.pfn.n >= pass.end.n) {
    if (!find_source(&pass.sources, false, false)) return false;
    pass.pfn = hugepage_pfn((hpn_t){pass.sources.at++});
    pass.end = pfn_add(pass.pfn, HUGEPAGE_FRAMES);
  }
  (void)empty_owner(&pass.pfn);
  return true;
}

/* Shorter runs for what is left, while there are mappings for them. */
static bool shorter_runs(void) {
  if (!pass.m.mesh || pass.m.shortest == 1 || pass.m.unplaced < UNPLACED_LEAST) return false;
  if (mappings_allowed() == 0) return false;
  pass.m.shortest /= 2;
  pass.again = true;
  begin_empty();
  return true;
}

/* ---- COLLAPSE ---- */

static void begin_collapse(void) {
  pass.phase = COLLAPSE;
  pass.at = 0;
}

static bool collapse_next(void) {
  for (; pass.at < arena.opened; pass.at++) {
    struct hugepage *hp = &arena.hugepages[pass.at];
    if (!is_zone(hp) || hp->skip != 0 || hp->node != pass.node) continue;
    if (zone_backing(hugepage_pfn((hpn_t){pass.at})) != ZONE_HOME) continue;
    (void)frames_collapse((hpn_t){pass.at});
    pass.at++;
    return true;
  }
  return false;
}

/* ---- a pass ---- */

void compact_begin(bool mesh) {
  void *scratch = pass.scratch;
  size_t bytes = pass.scratch_bytes;
  memset(&pass, 0, sizeof pass);
  pass.scratch = scratch;
  pass.scratch_bytes = bytes;
  pass.phase = OWNED;
  pass.mesh = pass.m.mesh = mesh && zone_open(options.force, options.inherited) == ZONE_OPEN;
}

/* Everything but what is added up, and what OWNED has done. */
static void begin_node(unsigned node) {
  pass.node = node;
  pass.phase = SCORE;
  pass.at = pass.nsource = 0;
  pass.guests = NULL;
  pass.nguests = pass.guest_at = 0;
  pass.runs = 0;
  pass.room_kib = 0;
  memset(pass.need, 0, sizeof pass.need);
  memset(pass.room, 0, sizeof pass.room);
  pass.again = false;
  pass.m.mesh = pass.mesh;
  memset(pass.histogram, 0, sizeof pass.histogram);
  if (pass.mesh) numa_prefer(node);
}

static void end_pass(void) {
  stats.passes++;
  stats.hollowed += pass.m.hollowed;
  stats.meshed += pass.m.meshed;
  stats.runs += pass.m.runs;
  stats.pinned += pass.m.pinned;
  stats.unplaced = pass.m.unplaced;
  pass.phase = IDLE;
  /* The lists of a large heap are large, too. */
  if (pass.scratch != NULL) (void)sys->discard(pass.scratch, pass.scratch_bytes);
}

static void end_node(void) {
  if (pass.node + 1 < numa.count)
    begin_node(pass.node + 1);
  else
    end_pass();
}

/* One unit of work. A phase that is over is followed by the next. */
static void work(void) {
  switch (pass.phase) {
  case OWNED:
    pass.owned = owned_compact();
    begin_node(NODE_UNKNOWN);
    break;
  case SCORE:
    if (pass.at < arena.opened) {
      score(pass.at++);
    } else {
      if (pass.mesh)
        begin_convert();
      else
        begin_empty();
    }
    break;
  case CONVERT:
    if (!convert_next()) pass.phase = LIST;
    break;
  case LIST:
    pass.m.mesh = make_lists();
    begin_empty();
    break;
  case EMPTY:
    if (empty_next() || shorter_runs()) break;
    if (pass.mesh)
      begin_collapse();
    else
      end_node();
    break;
  case COLLAPSE:
    if (!collapse_next()) end_node();
    break;
  default:
    break;
  }
}

void compact_abandon(void) { pass.phase = IDLE; }

bool compact_step(uint64_t budget_us) {
  uint64_t began = sys->thread_cpu_us();
  if (pass.phase != IDLE && pass.mesh && !know_waiters()) end_pass();
  if (pass.phase != IDLE && pass.mesh) numa_prefer(pass.node);
  while (pass.phase != IDLE) {
    /* A fork froze the zone since. */
    if (pass.mesh && zone_state() != ZONE_OPEN) {
      end_pass();
      break;
    }
    work();
    if (sys->thread_cpu_us() - began >= budget_us) break;
  }
  if (pass.mesh) numa_prefer(NODE_UNKNOWN);
  return pass.phase == IDLE;
}

void compact_stats(struct compact_stats *out) { *out = stats; }
const struct compact_stats *compact_places(void) { return &stats; }

void compact_fini(void) {
  if (pass.scratch != NULL) (void)sys->unreserve(pass.scratch, pass.scratch_bytes);
  memset(&pass, 0, sizeof pass);
  stats = (struct compact_stats){0};
}
