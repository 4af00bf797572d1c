/* Meshing: frames of a sparse slab (the guest) have their memory from frames of another slab of the
 * class (the host) where the host has free slots at the same places.
 *
 * A run of a guest's frames is mapped onto as many of a host's, such that slots fall onto slots:
 * guest's slot s is host's slot s + shift. What lives in the guest is taken (blocked) in the host,
 * so that nobody is handed it there. A slot of the guest that is freed is free in both; the guest
 * never hands out anything again, and when nothing lives in it any more it is destroyed and its
 * frames get private memory of their own.
 *
 *   run MOVING   reserved: the host's slots are blocked, memory has not changed yet; slots that are
 *                freed meanwhile stay blocked until it is settled
 *   run LIVE     the guest's frames have the host's memory
 *
 * A slab may be a guest with some of its frames and a host with others (home): it still hands out
 * nothing, and is gone when nothing lives in it, of its own or of others.
 *
 *   host:  free & blocked = 0;  nfree = |free|
 *   blocked = the slots onto which a live slot of some run falls (of MOVING ones: fell)
 *
 * A frame that is pinned for long gets memory of its own while its neighbours stay as they are
 * (slab_move_out): its backing is FROZEN then. Nothing else changes, until the slab is empty or a
 * fork has frozen all:
 *
 *   of a guest  its run stays LIVE and what lives there blocked in the host, whose slots the zone's
 *               page still has: a little waste, but a slot that lies in two frames is one, and
 *               freeing knows of no case more
 *   of a host   its guests keep the zone's page, and block what they blocked; the host hands out of
 *               its own. No guest is added (only HOME frames take any). The zone's page goes at
 *               once when it has no guest, else with the host
 *
 * Everything here is guarded by the lock of the class's bin, which host and guest share. */
#ifndef QUIRE_SLAB_MESH_H
#define QUIRE_SLAB_MESH_H

#include "slab/bin_impl.h"

/* Slabs that one freed object can empty: its own, and a host for each frame that it touches. */
enum { MESH_GONE_MAX = 1 + SLAB_MAX / FRAME_SIZE + 1 };

enum mesh_run_state { MESH_MOVING = 1, MESH_LIVE = 2 };

/* There are many of these: in place of pointers, desc_ref()s. */
struct mesh_run {
  struct desc_cache *cache; /* struct desc, but for its second half */
  uint32_t guest, host;     /* slabs */
  uint32_t next_of_guest, next_of_host;
  uint8_t first, n; /* the guest's frames */
  uint8_t at;       /* the first of the host's */
  uint8_t state;
  int16_t shift;
} aligned_to(DESC_UNIT);

_Static_assert(sizeof(struct mesh_run) == DESC_UNIT, "");

/* A host's alone: there are many more guests. */
struct mesh_blocked {
  struct desc desc;
  uint64_t slots[]; /* SLAB_WORDS_SMALL or SLAB_WORDS_LARGE, as the slab's own bitmap */
} cacheline_aligned;

struct mesh {
  struct desc_cache *cache;
  uint32_t as_guest, as_host; /* its runs */
  uint32_t blocked;           /* struct mesh_blocked; 0: none, it has never been a host */
  uint32_t mapped; /* bit i: frame i has memory of the zone, a host's or (home) its own place's */
  uint32_t home;   /* of these, the latter; a host by its hugepage has neither */
  uint16_t nas_host;
} aligned_to(DESC_UNIT);

_Static_assert(sizeof(struct mesh) == DESC_UNIT, "");

extern struct desc_cache mesh_cache, mesh_run_cache, mesh_blocked_small, mesh_blocked_large;

static inline struct slab *run_guest(const struct mesh_run *run) { return desc_at(run->guest); }
static inline struct slab *run_host(const struct mesh_run *run) { return desc_at(run->host); }
static inline struct mesh_run *first_as_guest(const struct slab *slab) {
  return desc_at(slab->mesh->as_guest);
}
static inline struct mesh_run *first_as_host(const struct slab *slab) {
  return desc_at(slab->mesh->as_host);
}
static inline struct mesh_run *next_of_guest(const struct mesh_run *run) {
  return desc_at(run->next_of_guest);
}
static inline struct mesh_run *next_of_host(const struct mesh_run *run) {
  return desc_at(run->next_of_host);
}

/* The guest's slots that touch the run's frames: [*from, *to). */
void run_slots(const struct mesh_run *run, unsigned *from, unsigned *to);

/* What a run of a guest's frames asks of a host: room for the slots that touch it and live. */
struct mesh_needs {
  unsigned first; /* frame of the guest */
  int from;       /* slot of the guest that is bit 0 */
  unsigned nwords;
  uint64_t live[SLAB_WORDS_LARGE];
};

/* The needs of frames [first, + n), as they are now. */
void mesh_look(const struct slab *guest, unsigned first, unsigned n, struct mesh_needs *needs);

/* Could these frames be mapped onto the host's from `at` on, now? */
bool mesh_fits(const struct mesh_needs *needs, const struct slab *host, unsigned at);

/* Is this slot of a host taken for a guest? */
bool mesh_is_blocked(const struct slab *slab, unsigned slot);

/* Frames between which slots of the class begin at the same offsets again. */
unsigned mesh_period(unsigned size_class);

/* May frame i of one slab of the class have frame j's place of another? */
bool mesh_same_phase(unsigned size_class, unsigned i, unsigned j);

/* Reserves; mesh_fits said yes. NULL without memory for the records, or when nothing lives in these
 * frames any more: a run that blocks nothing would let its host go while it is being moved. */
struct mesh_run *mesh_attach(struct bin *bin, struct slab *guest, unsigned first, unsigned n,
                             struct slab *host, unsigned at);

/* The memory is there: LIVE, and what was freed meanwhile is free in the host now. lived: the
 * guest's slots that were taken when the run was attached, a bit each. A host that is to be
 * destroyed is added to gone. */
void mesh_settle(struct bin *bin, struct mesh_run *run, const uint64_t *lived, struct slab **gone,
                 unsigned *ngone);

/* Undoes mesh_attach. */
void mesh_detach(struct bin *bin, struct mesh_run *run, const uint64_t *lived, struct slab **gone,
                 unsigned *ngone);

/* A guest whose frames are its own again: none of its hosts blocks anything for it. */
void mesh_thaw(struct bin *bin, struct slab *guest, struct slab **gone, unsigned *ngone);

/* A host in which nothing lives, of itself or of others, is about to go: frames that are still
 * mapped onto its own hold nothing, and are nobody's guests from now on. */
void mesh_unhost(struct slab *host);

/* As slab_put for one object of a slab that takes part; hosts that became empty by it are added to
 * gone. */
unsigned mesh_put(struct bin *bin, struct slab *slab, void *object, enum slab_verdict *verdict,
                  struct slab **gone, unsigned *ngone);

/* As slab_check, also for a slab that takes part: a slot that is taken for a guest is nobody's. */
enum slab_verdict mesh_check(const struct slab *slab, const void *object);

/* A guest in which nothing lives any more leaves its bin: to be destroyed. */
struct slab *mesh_leave(struct bin *bin, struct slab *slab);

/* Without the lock, of a slab in which nothing lives: private memory again. False when the kernel
 * refuses: then its frames are given up for good, and it is gone. */
bool mesh_release(struct slab *slab);

/* The frames onto which runs of guests are mapped, or are about to be. */
uint32_t mesh_hosting(const struct slab *slab);

/* Gives a slab its record; false without memory. */
bool mesh_prepare(struct slab *slab);

/* These frames of an isolated slab are the zone's now, at their own places; all of them: a lone
 * host. */
void mesh_make_home(struct slab *slab, uint32_t frames);

/* Has any of its frames another slab's memory? */
static inline bool mesh_is_guest(const struct slab *slab) {
  return slab->mesh != NULL && (slab->mesh->mapped & ~slab->mesh->home) != 0;
}

bool mesh_consistent(const struct slab *slab);
void mesh_fini(void);

#endif
