#include "slab/mesh.h"

#include <string.h>

#include "page/poison.h"
#include "page/zone.h"

struct desc_cache mesh_cache = DESC_CACHE_INIT(sizeof(struct mesh), "mesh", NULL);
struct desc_cache mesh_blocked_small = DESC_CACHE_INIT(
    sizeof(struct mesh_blocked) + SLAB_WORDS_SMALL * sizeof(uint64_t), "mesh-blocked-512", NULL);
struct desc_cache mesh_blocked_large = DESC_CACHE_INIT(
    sizeof(struct mesh_blocked) + SLAB_WORDS_LARGE * sizeof(uint64_t), "mesh-blocked-1024", NULL);
struct desc_cache mesh_run_cache = DESC_CACHE_INIT(sizeof(struct mesh_run), "mesh-run", NULL);

/* ---- slots and frames ---- */

/* Slots [*from, *to) touch frames [first, + n). */
static void slots_of(const struct slab *slab, unsigned first, unsigned n, unsigned *from,
                     unsigned *to) {
  size_t size = class_size(slab->size_class);
  *from = (unsigned)((size_t)first * FRAME_SIZE / size);
  *to = (unsigned)(((size_t)(first + n) * FRAME_SIZE + size - 1) / size);
  if (*to > slab->nslots) *to = slab->nslots;
  if (*from > *to) *from = *to;
}

void run_slots(const struct mesh_run *run, unsigned *from, unsigned *to) {
  slots_of(run_guest(run), run->first, run->n, from, to);
}

/* Bits [from, + 64) of a slab's bitmap of free slots; beyond its ends nothing is free. */
static inline uint64_t free_at(const struct slab *slab, int from) {
  int words = (int)slab_words(slab), w = from >= 0 ? from / 64 : -((63 - from) / 64);
  unsigned shift = (unsigned)(from - w * 64);
  uint64_t low = w >= 0 && w < words ? slab->free[w] : 0;
  if (shift == 0) return low;
  uint64_t high = w + 1 >= 0 && w + 1 < words ? slab->free[w + 1] : 0;
  return low >> shift | high << (64 - shift);
}

static int shift_of(const struct slab *slab, unsigned first, unsigned at) {
  return ((int)at - (int)first) * FRAME_SIZE / (int)class_size(slab->size_class);
}

unsigned mesh_period(unsigned size_class) {
  size_t size = class_size(size_class);
  return (unsigned)(size / size_min(size & -size, FRAME_SIZE));
}

bool mesh_same_phase(unsigned size_class, unsigned i, unsigned j) {
  return (i > j ? i - j : j - i) % mesh_period(size_class) == 0;
}

void mesh_look(const struct slab *guest, unsigned first, unsigned n, struct mesh_needs *needs) {
  unsigned from, to;
  slots_of(guest, first, n, &from, &to);
  needs->first = first;
  needs->from = (int)from;
  needs->nwords = (to - from + 63) / 64;
  for (unsigned w = 0; w < needs->nwords; w++)
    needs->live[w] = ~free_at(guest, (int)(from + w * 64));
  if ((to - from) % 64 != 0)
    needs->live[needs->nwords - 1] &= ((uint64_t)1 << (to - from) % 64) - 1;
}

bool mesh_fits(const struct mesh_needs *needs, const struct slab *host, unsigned at) {
  int slot = needs->from + shift_of(host, needs->first, at);
  for (unsigned w = 0; w < needs->nwords; w++, slot += 64)
    if ((needs->live[w] & ~free_at(host, slot)) != 0) return false;
  return true;
}

/* ---- records ---- */

static struct mesh *mesh_of(struct slab *slab) {
  if (slab->mesh != NULL) return slab->mesh;
  struct mesh *mesh = desc_alloc(&mesh_cache);
  if (mesh == NULL) return NULL;
  mesh->as_guest = mesh->as_host = mesh->blocked = 0;
  mesh->nas_host = 0;
  mesh->mapped = mesh->home = 0;
  slab->mesh = mesh;
  return mesh;
}

/* Room to note what it keeps for guests. */
static bool may_block(struct slab *slab) {
  struct mesh *mesh = mesh_of(slab);
  if (mesh == NULL || mesh->blocked != 0) return mesh != NULL;
  bool small = slab->nslots <= SLAB_WORDS_SMALL * 64;
  struct mesh_blocked *blocked = desc_alloc(small ? &mesh_blocked_small : &mesh_blocked_large);
  if (blocked == NULL) return false;
  memset(blocked->slots, 0, slab_words(slab) * sizeof(uint64_t));
  mesh->blocked = desc_ref(blocked);
  return true;
}

static uint32_t run_frames(const struct mesh_run *run) {
  return (uint32_t)(((uint64_t)1 << (run->first + run->n)) - ((uint64_t)1 << run->first));
}

static bool get(const uint64_t *bits, unsigned n) { return bits[n / 64] >> n % 64 & 1; }
static uint64_t *blocked_slots(const struct slab *slab) {
  struct mesh_blocked *blocked = desc_at(slab->mesh->blocked);
  return blocked->slots;
}

bool mesh_is_blocked(const struct slab *slab, unsigned slot) {
  return slab->mesh != NULL && slab->mesh->blocked != 0 && get(blocked_slots(slab), slot);
}

/* Does an object of this slab's own live there? */
static bool lives(const struct slab *slab, unsigned slot) {
  return !slab_slot_is_free(slab, slot) && !mesh_is_blocked(slab, slot);
}

static void set(uint64_t *bits, unsigned n) { bits[n / 64] |= (uint64_t)1 << n % 64; }
static void clear(uint64_t *bits, unsigned n) { bits[n / 64] &= ~((uint64_t)1 << n % 64); }

/* The host's count of free slots has changed: to its list. */
static void relist(struct bin *bin, struct slab *host) {
  if (host->state == SLAB_PARTIAL) {
    bin_list_remove(bin, host);
    if (host->nfree == 0) {
      host->state = SLAB_FULL;
      bin->nfull++;
    } else {
      bin_list_add(bin, host);
    }
  }
}

static void block(struct bin *bin, struct slab *host, unsigned slot) {
  bin->nblocked++;
  bin->free_slots--;
  set(blocked_slots(host), slot);
  clear(host->free, slot);
  host->nfree--;
}

/* A slot that is blocked is so by one run: it was free when that reserved it. */
static bool unblock(struct bin *bin, struct slab *host, unsigned slot) {
  if (!mesh_is_blocked(host, slot)) return false;
  clear(blocked_slots(host), slot);
  set(host->free, slot);
  host->nfree++;
  bin->nblocked--;
  bin->free_slots++;
  if (slot / 64 < host->hint) host->hint = (uint8_t)(slot / 64);
  return true;
}

/* After a change by unblocking. */
static void settle_host(struct bin *bin, struct slab *host, struct slab **gone, unsigned *ngone) {
  struct slab *empty = bin_settle(bin, host);
  if (empty != NULL) gone[(*ngone)++] = empty;
}

static bool all_free(const struct slab *slab, unsigned from, unsigned to) {
  while (from < to && slab_slot_is_free(slab, from)) from++;
  return from == to;
}

struct mesh_run *mesh_attach(struct bin *bin, struct slab *guest, unsigned first, unsigned n,
                             struct slab *host, unsigned at) {
  unsigned from, to;
  slots_of(guest, first, n, &from, &to);
  if (all_free(guest, from, to)) return NULL;
  struct mesh_run *run = desc_alloc(&mesh_run_cache);
  if (run == NULL || mesh_of(guest) == NULL || !may_block(host)) {
    if (run != NULL) desc_free(run);
    return NULL;
  }
  run->guest = desc_ref(guest);
  run->host = desc_ref(host);
  run->first = (uint8_t)first;
  run->n = (uint8_t)n;
  run->at = (uint8_t)at;
  run->state = MESH_MOVING;
  run->shift = (int16_t)shift_of(guest, first, at);
  run->next_of_guest = guest->mesh->as_guest;
  guest->mesh->as_guest = desc_ref(run);
  run->next_of_host = host->mesh->as_host;
  host->mesh->as_host = desc_ref(run);
  host->mesh->nas_host++;
  if (host->state == SLAB_PARTIAL && slab_is_empty(host)) bin->nempty--;
  for (unsigned slot = from; slot < to; slot++)
    if (!slab_slot_is_free(guest, slot)) block(bin, host, (unsigned)((int)slot + run->shift));
  relist(bin, host);
  return run;
}

/* Unblocks those of the run's slots that lived when it was attached; unless `all`, only those that
 * live no more. */
static bool unblock_run(struct bin *bin, struct mesh_run *run, const uint64_t *lived, bool all) {
  unsigned from, to;
  bool changed = false;
  run_slots(run, &from, &to);
  for (unsigned slot = from; slot < to; slot++)
    if (get(lived, slot) && (all || slab_slot_is_free(run_guest(run), slot)))
      changed = unblock(bin, run_host(run), (unsigned)((int)slot + run->shift)) || changed;
  return changed;
}

/* The host's frames hold what was copied there. */
static void fill_host(const struct mesh_run *run) {
  struct slab *host = run_host(run);
  uint32_t filled = (uint32_t)(((uint64_t)1 << (run->at + run->n)) - ((uint64_t)1 << run->at));
  filled &= host->holes;
  if (filled == 0) return;
  frames_fill(host->pfn, filled);
  host->holes &= ~filled;
}

void mesh_settle(struct bin *bin, struct mesh_run *run, const uint64_t *lived, struct slab **gone,
                 unsigned *ngone) {
  struct slab *guest = run_guest(run), *host = run_host(run);
  run->state = MESH_LIVE;
  guest->mesh->mapped |= run_frames(run);
  fill_host(run);
  memmap_flag(pfn_add(guest->pfn, run->first), run->n, MEMDESC_GUEST, true);
  memmap_flag(pfn_add(host->pfn, run->at), run->n, MEMDESC_HOST, true);
  if (unblock_run(bin, run, lived, false)) settle_host(bin, host, gone, ngone);
}

/* Out of both lists. */
static void unlink_run(struct mesh_run *run) {
  uint32_t *at = &run_guest(run)->mesh->as_guest, ref = desc_ref(run);
  while (*at != ref) at = &((struct mesh_run *)desc_at(*at))->next_of_guest;
  *at = run->next_of_guest;
  at = &run_host(run)->mesh->as_host;
  while (*at != ref) at = &((struct mesh_run *)desc_at(*at))->next_of_host;
  *at = run->next_of_host;
  run_host(run)->mesh->nas_host--;
}

void mesh_detach(struct bin *bin, struct mesh_run *run, const uint64_t *lived, struct slab **gone,
                 unsigned *ngone) {
  struct slab *host = run_host(run);
  bool changed = unblock_run(bin, run, lived, true);
  memmap_flag(pfn_add(run_guest(run)->pfn, run->first), run->n, MEMDESC_GUEST, false);
  unlink_run(run);
  desc_free(run);
  if (host->mesh->as_host == 0) memmap_flag(host->pfn, host->nframes, MEMDESC_HOST, false);
  if (changed) settle_host(bin, host, gone, ngone);
}

void mesh_thaw(struct bin *bin, struct slab *guest, struct slab **gone, unsigned *ngone) {
  uint64_t lived[SLAB_WORDS_LARGE];
  for (unsigned w = 0; w < slab_words(guest); w++) {
    lived[w] = ~guest->free[w];
    if (guest->mesh->blocked != 0) lived[w] &= ~blocked_slots(guest)[w];
  }
  while (guest->mesh->as_guest != 0) mesh_detach(bin, first_as_guest(guest), lived, gone, ngone);
}

void mesh_unhost(struct slab *host) {
  while (host->mesh != NULL && host->mesh->as_host != 0) {
    struct mesh_run *run = first_as_host(host);
    unlink_run(run);
    desc_free(run);
  }
}

/* ---- freeing ---- */

/* A slot of a guest is free now: is it in its hosts too? */
static void unblock_hosts(struct bin *bin, struct slab *guest, unsigned slot, struct slab **gone,
                          unsigned *ngone) {
  uint32_t frames = slab_frames_of(guest, slot, slot + 1);
  unsigned before = *ngone;
  for (struct mesh_run *run = first_as_guest(guest), *next; run != NULL; run = next) {
    next = next_of_guest(run);
    if (run->state != MESH_LIVE || (run_frames(run) & frames) == 0) continue;
    struct slab *host = run_host(run);
    if (!unblock(bin, host, (unsigned)((int)slot + run->shift))) continue;
    settle_host(bin, host, gone, ngone);
    /* A host that goes takes its runs with it, the next one perhaps. */
    if (*ngone != before) next = first_as_guest(guest);
    before = *ngone;
  }
}

enum slab_verdict mesh_check(const struct slab *slab, const void *object) {
  enum slab_verdict verdict = slab_check(slab, object);
  if (verdict != SLAB_OK) return verdict;
  return mesh_is_blocked(slab, (unsigned)slab_slot(slab, object)) ? SLAB_DOUBLE_FREE : SLAB_OK;
}

unsigned mesh_put(struct bin *bin, struct slab *slab, void *object, enum slab_verdict *verdict,
                  struct slab **gone, unsigned *ngone) {
  int slot = slab_slot(slab, object);
  *verdict = mesh_check(slab, object);
  if (*verdict != SLAB_OK) return 0;
  set(slab->free, (unsigned)slot);
  slab->nfree++;
  if ((unsigned)slot / 64 < slab->hint) slab->hint = (uint8_t)(slot / 64);
  unblock_hosts(bin, slab, (unsigned)slot, gone, ngone);
  return 1;
}

struct slab *mesh_leave(struct bin *bin, struct slab *slab) {
  while (slab->mesh->as_guest != 0) {
    struct mesh_run *run = first_as_guest(slab);
    unlink_run(run);
    desc_free(run);
  }
  mesh_unhost(slab);
  if (slab->next != NULL) slab->next->prev = slab->prev;
  if (slab->prev != NULL)
    slab->prev->next = slab->next;
  else
    bin->guests = slab->next;
  bin_forget_slab(bin, slab);
  return slab;
}

/* Its frames can't be touched any more: used for ever, and of nobody. */
static cold void give_up(struct slab *slab) {
  pfn_t pfn = slab->pfn;
  size_t n = slab->nframes;
  if (slab->holes != 0) frames_fill(pfn, slab->holes);
  memmap_clear(pfn, n, MEMDESC_SLAB);
  desc_free(slab);
  poison_set(pfn, n);
}

bool mesh_release(struct slab *slab) {
  struct mesh *mesh = slab->mesh;
  bool ok = mesh->mapped == 0 || zone_plain(slab->pfn, slab->nframes) == 0;
  if (ok && mesh->home != 0) zone_punch(slab->pfn, slab->nframes);
  /* Frames between mapped ones lost what they held with them, and read as zeros too. */
  if (ok && mesh->mapped != 0) {
    unsigned lowest = (unsigned)__builtin_ctz(mesh->mapped);
    unsigned highest = 31 - (unsigned)__builtin_clz(mesh->mapped);
    uint32_t between = (uint32_t)(((uint64_t)2 << highest) - ((uint64_t)1 << lowest));
    between &= ~slab->holes;
    frames_hollow(slab->pfn, between);
    slab->holes |= between;
  }
  slab->mesh = NULL;
  if (mesh->blocked != 0) desc_free(desc_at(mesh->blocked));
  desc_free(mesh);
  if (!ok) give_up(slab);
  return ok;
}

uint32_t mesh_hosting(const struct slab *slab) {
  uint32_t frames = 0;
  if (slab->mesh == NULL) return 0;
  for (const struct mesh_run *run = first_as_host(slab); run != NULL; run = next_of_host(run))
    frames |= (uint32_t)(((uint64_t)1 << (run->at + run->n)) - ((uint64_t)1 << run->at));
  return frames;
}

bool mesh_prepare(struct slab *slab) { return mesh_of(slab) != NULL; }

void mesh_make_home(struct slab *slab, uint32_t frames) {
  slab->mesh->home |= frames;
  slab->mesh->mapped |= frames;
}

/* ---- looking ---- */

static bool run_consistent(const struct mesh_run *run) {
  const struct slab *guest = run_guest(run), *host = run_host(run);
  unsigned from, to;
  if (guest->size_class != host->size_class) return false;
  if (run->shift != shift_of(guest, run->first, run->at)) return false;
  if (run->first + run->n > guest->nframes || run->at + run->n > host->nframes) return false;
  run_slots(run, &from, &to);
  for (unsigned slot = from; slot < to; slot++)
    if (lives(guest, slot) && !mesh_is_blocked(host, (unsigned)((int)slot + run->shift)))
      return false;
  for (unsigned i = 0; run->state == MESH_LIVE && i < run->n; i++) {
    pfn_t pfn = pfn_add(guest->pfn, run->first + i);
    enum zone_backing backing = zone_backing(pfn);
    if (backing == ZONE_FROZEN) continue;
    if (backing != ZONE_GUEST || zone_frame_of(pfn).n != host->pfn.n + run->at + i) return false;
  }
  return true;
}

/* Does something that lives in a guest fall onto this slot? */
static bool is_held(const struct slab *host, unsigned slot) {
  for (const struct mesh_run *run = first_as_host(host); run != NULL; run = next_of_host(run)) {
    unsigned from, to;
    int there = (int)slot - run->shift;
    run_slots(run, &from, &to);
    if (there < (int)from || there >= (int)to) continue;
    if (run->state == MESH_MOVING || lives(run_guest(run), (unsigned)there)) return true;
  }
  return false;
}

bool mesh_consistent(const struct slab *slab) {
  const struct mesh *mesh = slab->mesh;
  if (mesh == NULL) return slab->state != SLAB_GUEST;
  unsigned n = 0;
  for (const struct mesh_run *run = first_as_guest(slab); run != NULL; run = next_of_guest(run))
    if (run_guest(run) != slab || !run_consistent(run)) return false;
  for (const struct mesh_run *run = first_as_host(slab); run != NULL; run = next_of_host(run), n++)
    if (run_host(run) != slab || !run_consistent(run)) return false;
  if (n != mesh->nas_host) return false;
  for (unsigned slot = 0; slot < slab->nslots; slot++) {
    bool blocked = mesh_is_blocked(slab, slot);
    if (blocked && (slab_slot_is_free(slab, slot) || !is_held(slab, slot))) return false;
  }
  if ((mesh->home & ~mesh->mapped) != 0 || (mesh->mapped & ~slab_all_frames(slab)) != 0)
    return false;
  return slab->state != SLAB_GUEST || mesh_is_guest(slab);
}

void mesh_fini(void) {
  desc_cache_fini(&mesh_cache);
  desc_cache_fini(&mesh_blocked_small);
  desc_cache_fini(&mesh_blocked_large);
  desc_cache_fini(&mesh_run_cache);
}
