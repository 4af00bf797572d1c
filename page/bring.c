#include "page/bring.h"

#include <errno.h>
#include <string.h>

#include "arch/numa_sys.h"
#include "arch/sys.h"
#include "page/compact.h"
#include "page/frames_impl.h"

enum {
  NOTES = 16,
  UNIT = 4,        /* hugepages that are brought in one go */
  NODE_SHIFT = 32, /* a note: pfn of the folio, and node above it; 0: none */
  NOTE_LEAST = HUGEPAGE_FRAMES,
};

static uint64_t notes[NOTES];
static struct bring_stats stats;

/* ---- a hugepage ---- */

/* Takes it over for the node, if these frames are all that is used of it. */
static bool claim(struct hugepage *hp, size_t nframes, unsigned node, unsigned *before) {
  const unsigned never = HUGEPAGE_ZONE | HUGEPAGE_BUSY | HUGEPAGE_COLLAPSING;
  lock_acquire(&frames.lock);
  bool ok = hp->node != node && hp->nused == nframes && (hp->flags & never) == 0;
  *before = hp->node;
  if (ok) frames_set_node(hp, node);
  lock_release(&frames.lock);
  return ok;
}

/* Whoever was given frames beside these meanwhile counts on the node. */
static void unclaim(struct hugepage *hp, size_t nframes, unsigned before) {
  lock_acquire(&frames.lock);
  if (hp->nused == nframes) frames_set_node(hp, before);
  lock_release(&frames.lock);
}

static int bring_hugepage(pfn_t pfn, size_t nframes, unsigned node) {
  struct hugepage *hp = &arena.hugepages[pfn_hugepage(pfn).n];
  struct numa_moved moved = {0};
  unsigned before;
  if (!claim(hp, nframes, node, &before)) return 0;
  int err = numa_sys->move(arena_addr(pfn), nframes << FRAME_SHIFT, numa.os_node[node], &moved);
  size_t unit = sys_page_size() / FRAME_SIZE;
  add_relaxed(&stats.refused, err != 0 ? nframes : moved.refused * unit);
  if (err == 0 && moved.refused > moved.there) err = -EAGAIN;
  if (err != 0)
    unclaim(hp, nframes, before);
  else
    add_relaxed(&stats.frames, moved.there * unit);
  return err;
}

/* ---- a folio ---- */

/* The part of the folio from `at` on that lies in one hugepage. */
static size_t part_of(const struct folio *folio, size_t at) {
  return size_min(folio->nframes - at, HUGEPAGE_FRAMES - pfn_index(pfn_add(folio->pfn, at)));
}

bool bring_folio(struct folio *folio, struct migration *m) {
  unsigned most = m->bring_most;
  size_t at = 0;
  for (size_t here; at < folio->nframes && most > 0; at += here) {
    pfn_t pfn = pfn_add(folio->pfn, at);
    here = part_of(folio, at);
    bool elsewhere = frames_node(pfn) != m->bring_to;
    m->bring_error = bring_hugepage(pfn, here, m->bring_to);
    if (m->bring_error != 0) return true;
    most -= elsewhere && frames_node(pfn) == m->bring_to;
  }
  return at == folio->nframes;
}

/* A unit of work: 0 and *over, or a negative errno. */
static int bring(pfn_t pfn, unsigned node, unsigned most, bool *over) {
  struct migration m = {.bring_to = node, .bring_most = most};
  memdesc_t d = memmap_peek(pfn);
  *over = true;
  if (memdesc_type(d) != MEMDESC_FOLIO) return -EINVAL;
  void *owner = memdesc_owner(d);
  const struct owner_ops *ops = owner_ops_of(owner);
  uint64_t before = load_relaxed(&stats.frames);
  frames_lock_discard();
  enum owner_verdict verdict = ops->isolate(owner, pfn);
  if (verdict == OWNER_DONE) {
    *over = ops->migrate(owner, &m) == OWNER_DONE;
    ops->put_back(owner);
  }
  frames_unlock_discard();
  if (verdict != OWNER_DONE) return -EBUSY;
  if (*over && load_relaxed(&stats.frames) != before) add_relaxed(&stats.folios, 1);
  return m.bring_error;
}

int bring_now(const void *p) {
  bool over;
  if (!arena_contains(p)) return -EINVAL;
  pfn_t pfn = arena_pfn(p);
  if (memdesc_type(memmap_peek(pfn)) != MEMDESC_FOLIO) return -EINVAL;
  unsigned node = numa_here();
  return node == NODE_UNKNOWN ? 0 : bring(pfn, node, UINT32_MAX, &over);
}

/* ---- notes ---- */

/* Racy: what is brought is looked at again under the lock. */
static bool is_elsewhere(const struct folio *folio, unsigned node) {
  for (size_t at = 0, here; at < folio->nframes; at += here) {
    const struct hugepage *hp = &arena.hugepages[pfn_hugepage(pfn_add(folio->pfn, at)).n];
    here = part_of(folio, at);
    if (load_relaxed(&hp->node) != node && load_relaxed(&hp->nused) == here) return true;
  }
  return false;
}

static void note(pfn_t pfn, unsigned node) {
  uint64_t word = (uint64_t)node << NODE_SHIFT | pfn.n;
  for (unsigned i = 0; i < NOTES; i++)
    if ((uint32_t)load_relaxed(&notes[i]) == pfn.n && load_relaxed(&notes[i]) != 0) {
      store_relaxed(&notes[i], word); /* the last who asks */
      return;
    }
  for (unsigned i = 0; i < NOTES; i++) {
    uint64_t none = 0;
    if (cas_relaxed(&notes[i], &none, word)) return;
  }
}

void bring_later(const struct folio *folio) {
  unsigned node = numa_here();
  if (likely(node == NODE_UNKNOWN) || folio->nframes < NOTE_LEAST) return;
  if (is_elsewhere(folio, node)) note(folio->pfn, node);
}

bool bring_pending(void) {
  bool pending = false;
  for (unsigned i = 0; i < NOTES && numa_on(); i++) pending |= load_relaxed(&notes[i]) != 0;
  return pending;
}

bool bring_next(void) {
  bool over = true;
  for (unsigned i = 0; i < NOTES; i++) {
    uint64_t word = load_relaxed(&notes[i]);
    if (word == 0) continue;
    int err = bring((pfn_t){(uint32_t)word}, (unsigned)(word >> NODE_SHIFT), UNIT, &over);
    /* Unless it has been noted anew. */
    if (over || err != 0) (void)cas_relaxed(&notes[i], &word, 0);
    break;
  }
  return bring_pending();
}

const struct bring_stats *bring_places(void) { return &stats; }

void bring_stats(struct bring_stats *out) {
  out->folios = load_relaxed(&stats.folios);
  out->frames = load_relaxed(&stats.frames);
  out->refused = load_relaxed(&stats.refused);
}

void bring_fini(void) {
  memset(notes, 0, sizeof notes);
  stats = (struct bring_stats){0};
}
