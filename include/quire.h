/* quire: a malloc whose heap can be seen.
 *
 * Programs need none of this: with LD_PRELOAD or linked in, quire serves malloc and its family.
 * Here is what it offers beyond them. Every function is thread safe; none may be called from a
 * signal handler unless it says so. Sizes are bytes unless a name says frames (4096 bytes each).
 *
 * Options come from the environment, QUIRE_CONF="name:value,...": below, and see quire(3). */
#ifndef QUIRE_H
#define QUIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define QUIRE_VERSION "0.1.0"

/* Options, in QUIRE_CONF (default in brackets):
 *
 *   huge:auto|always|never|hugetlb [auto]
 *      Backing of the heap. auto: small pages while the heap is small, then hugepages; hugetlb: the
 *      system's reserved pool, hugepages where it is empty.
 *   huge_threshold:0 to 1T [16M]
 *      Heap size from which huge:auto asks for hugepages.
 *   decay_ms:0 to 3600000 [500]
 *      Milliseconds for which freed memory beyond demand stays with the program.
 *   background:auto|off [auto]
 *      A thread that gives memory back while the program is idle; auto starts it once the heap has
 *      passed background_threshold.
 *   background_threshold:0 to 1T [64M]
 *      Heap size from which background:auto starts the thread.
 *   compact:off|auto|aggressive [auto]
 *      Gives memory of a sparse heap back while the program runs, once that pays; aggressive: for
 *      smaller gains and with more of a processor.
 *   compact_cpu:1 to 100 [30]
 *      Most per cent of one processor that compact:auto takes; a quarter of it while all processors
 *      are in demand.
 *   compact_maps:1 to 90 [50]
 *      Most per cent of vm.max_map_count that compaction may use.
 *   compact_stall:10 to 100000 [200]
 *      Microseconds for which a step of compaction may make a thread wait that touches the memory
 *      it moves: what moves at once is kept short enough for that.
 *   compact_force:off|on [off]
 *      on: mesh also on kernels whose UFFDIO_MOVE has known defects (before 6.12).
 *   watch_fd:0 to 1048576 [0]
 *      A descriptor of /dev/userfaultfd that the process was given, for meshing where it has not
 *      the right itself; 0: what LISTEN_FDNAMES calls userfaultfd.
 *   numa:auto|off [auto]
 *      auto: where the machine has several nodes of memory, threads get memory of the node that
 *      they run on; what that is hwloc is asked, if it is installed.
 *   cache_thread:0 to 1G [2M]
 *      Most bytes that one thread's cache may hold.
 *   cache_total:0 to 1T [64M]
 *      Most bytes that all threads' caches together may hold.
 *   reserve:0 to 8T [0]
 *      Address space to reserve; 0 for 16 times the machine's memory.
 *   check:off|on [off]
 *      on: detect misuse at the call itself, fill freed memory, guard large blocks.
 *   stats:off|on [off]
 *      on: print statistics to standard error at exit.
 */

/* ---- allocation, under names that no other allocator has ----
 *
 * As malloc's family does by its manuals, and interchangeable with it where quire serves that: NULL
 * and ENOMEM on failure, errno untouched otherwise, 16-byte alignment for 16 bytes and more. */
void *quire_malloc(size_t size);
void *quire_calloc(size_t count, size_t size);
void *quire_realloc(void *p, size_t size);
void *quire_aligned_alloc(size_t alignment, size_t size); /* a power of two; EINVAL if not */
void quire_free(void *p);
void quire_free_sized(void *p, size_t size);
size_t quire_usable_size(const void *p);

/* ---- statistics ---- */

enum { QUIRE_NODES_MAX = 32 };

/* One snapshot. Sums are taken one lock at a time, so they may disagree by what other threads did
 * meanwhile. They agree exactly when nobody allocates: then live + slab_free + cached + transfer is
 * frames_used (but for frames whose memory has failed), and what the heap costs is these frames but
 * for the hollow ones, frames_dirty and metadata. */
struct quire_stats {
  uint32_t version;     /* QUIRE_STATS_VERSION */
  uint32_t page_size;   /* the system's */
  uint64_t live;        /* bytes in objects that the program holds, rounded up to their classes (and
                         * with check:on the guards behind large ones) */
  uint64_t slab_live;   /* of these, in slabs */
  uint64_t folio_live;  /* of these, in folios (above 64 KiB) */
  uint64_t slab_free;   /* bytes of free slots in partial slabs, and their tails */
  uint64_t cached;      /* bytes of free objects in thread caches */
  uint64_t transfer;    /* bytes of free objects in transfer areas */
  uint64_t frames_used; /* frames that slabs and folios occupy */
  uint64_t frames_dirty;   /* free frames that still hold memory */
  uint64_t frames_opened;  /* frames that may be touched */
  uint64_t frames_peak;    /* most frames used so far */
  uint64_t hugepages;      /* 2 MiB units that are not empty */
  uint64_t huge_advised;   /* 2 MiB units for which the kernel was asked for a hugepage */
  uint64_t huge_fallbacks; /* times it gave small pages instead */
  uint64_t metadata; /* bytes: memmap, hugepage descriptors, slab and folio descriptors, caches */
  uint64_t reserved; /* bytes of address space */
  uint64_t nslabs;
  uint64_t nfolios;   /* those in caches included */
  uint64_t ncaches;   /* threads that have a cache */
  uint64_t discards;  /* system calls that gave memory back */
  uint64_t discarded; /* frames given back so far */
  uint64_t discard_failures;
  uint64_t moves;      /* reallocations that moved page tables instead of bytes */
  uint64_t reclaimed;  /* bytes taken from idle threads' caches so far */
  uint64_t background; /* 1 while the background thread runs */
  /* Compaction. */
  uint64_t hollow;        /* frames of frames_used that hold no memory of their own */
  uint64_t zone;          /* frames whose memory is the zone's: hosts */
  uint64_t guests;        /* frames mapped onto hosts; among the hollow ones */
  uint64_t frozen;        /* frames that were the zone's, and have been frozen by a fork or a pin */
  uint64_t mappings;      /* kernel mappings that all these cost */
  uint64_t compactions;   /* passes so far */
  uint64_t hollowed;      /* frames given back inside slabs so far */
  uint64_t meshed;        /* frames mapped onto hosts so far */
  uint64_t pinned;        /* slabs that could not be moved for a pin, so far */
  uint64_t freezes;       /* zones given up for a fork so far */
  uint64_t mesh_state;    /* enum quire_mesh_state: what keeps memory from being meshed */
  uint64_t owned_live;    /* bytes of `live` that owners of the program's have */
  uint64_t frames_pinned; /* frames of slabs, folios and owners' runs that are pinned */
  uint64_t frames_poisoned; /* frames whose memory has failed: out of use */
  /* Nodes of memory (NUMA). The heap is divided by this many; 1 where it isn't. */
  uint64_t nodes;
  uint64_t numa_state; /* enum quire_numa_state */
  /* Folios whose memory was brought to another node so far, frames of theirs that lie there, and
   * frames that the kernel left where they were. */
  uint64_t brought_folios, brought, brought_not;
  /* Of frames_used: [i] on the i-th node, in the order of the kernel's numbers; [0] of no known
   * node. */
  uint64_t node_frames[QUIRE_NODES_MAX + 1];
};

enum quire_numa_state {
  QUIRE_NUMA_UNKNOWN,     /* not looked for: the heap is small, or there is no background thread */
  QUIRE_NUMA_ONE,         /* the machine has one node */
  QUIRE_NUMA_KNOWN,       /* several; the heap is divided by them */
  QUIRE_NUMA_OFF,         /* several; numa:off */
  QUIRE_NUMA_NO_LIBRARY,  /* several; hwloc (libhwloc.so.15) is not there, or can't be loaded */
  QUIRE_NUMA_NO_TOPOLOGY, /* several; hwloc can't tell which processors are near them */
  QUIRE_NUMA_POLICY,      /* several; the program has a memory policy (numactl), which counts */
  QUIRE_NUMA_NO_MEMORY,   /* several; no memory for a division */
};

enum quire_mesh_state {
  QUIRE_MESH_CLOSED,    /* nothing: there was no reason to, or a fork ended it for a while */
  QUIRE_MESH_OPEN,      /* nothing */
  QUIRE_MESH_NO_WATCH,  /* userfaultfd is not permitted */
  QUIRE_MESH_NO_KERNEL, /* it lacks UFFDIO_MOVE, or has it with known defects (before Linux 6.12) */
  QUIRE_MESH_NO_MEMORY, /* no file of memory, or no address space */
  QUIRE_MESH_NO_PAGES,  /* system pages are larger than 4 KiB */
};

#define QUIRE_STATS_VERSION 3

/* Fills *out; returns 0, or -1 before the heap is ready (nothing was allocated yet). Takes locks
 * for short times, one after the other; costs some ten microseconds and grows with threads and
 * partial slabs. */
int quire_stats(struct quire_stats *out);

enum quire_format { QUIRE_TEXT, QUIRE_JSON, QUIRE_PROMETHEUS };

/* The same as text, NUL-terminated. Returns the length without the NUL; if that is >= size, the
 * text was cut to size - 1 bytes. Allocates nothing. */
size_t quire_stats_format(const struct quire_stats *stats, enum quire_format format, char *out,
                          size_t size);

/* Writes the present statistics to a stream. 0, or -1 with errno: what fwrite says, EAGAIN before
 * the heap is ready. */
int quire_stats_print(FILE *stream, enum quire_format format);

/* ---- giving memory back ---- */

/* Empties this thread's cache, idle threads' caches and the transfer areas, and gives free frames
 * back to the system but for `keep` bytes (or up to 2 MiB less, as empty hugepages go back whole).
 * Returns the bytes given back. */
size_t quire_purge(size_t keep);

/* A pass of compaction now: empties caches and gives free frames back as quire_purge(0) does, and
 * then memory that sparse slabs hold. Waits until it is over; other threads go on meanwhile. The
 * background thread does it, and is started for it; where it can't be (background:off, a sandboxed
 * process), the caller gives back only frames in which nothing lives. Returns the bytes that the
 * pass has gained beyond the purge. */
size_t quire_compact(void);

/* ---- nodes of memory ---- */

/* Brings a large allocation to the node (NUMA) that the calling thread runs on, in its time: for
 * data that one thread has made and another is going to use. No pointer changes; other threads may
 * use it meanwhile. Whole hugepages (2 MiB) that the allocation has for itself are brought, the
 * rest stays; p is any address in it. 0 when that is done, also where there is but one node; or an
 * error number:
 *
 *   EINVAL  not quire's, or not above 64 KiB
 *   EBUSY   it is pinned, or being resized
 *   EAGAIN  the kernel could not move most of a hugepage (pinned by it, no memory left there)
 *   ENODEV, EACCES, EPERM, ENOSYS, ENOMEM: what else the kernel says of move_pages(2)
 *
 * Reallocation does the same of its own accord, a little later, for allocations of 2 MiB and more.
 */
int quire_bring(const void *p);

/* ---- pins ---- */

/* A promise that memory stays what it is physically, for who hands it to hardware or registers it
 * with the kernel: quire neither moves, merges, collapses nor discards it. (Memory that was asked
 * for with an alignment of 512 bytes or more, and what is above 3.5 KiB, needs none of this for
 * registered buffers and direct I/O. Of other memory what the kernel has pinned itself is seen and
 * left alone, but not if it was compacted before: a fork, or a pin of an object beside it, can part
 * it from what the kernel writes. And quire's pin doesn't keep the kernel from migrating pages of
 * its own accord.)
 *
 * TRANSIENT is for the length of an operation and doesn't outlast a fork. LONG is for as long as it
 * takes: what compaction made shared with other addresses is moved out first, by the background
 * thread, and has a page of its own when the call returns. (A fork shares it with the child like
 * any memory, until one of them writes; what the kernel has pinned stays the parent's.) */
enum quire_pin_kind { QUIRE_PIN_TRANSIENT, QUIRE_PIN_LONG };

/* Pins [p, p + size): a part of one allocation, or of several that lie behind each other. Pins
 * nest, on the same or on overlapping ranges. 0 or an error number, and then nothing is pinned;
 * errno is untouched:
 *
 *   EINVAL     not quire's memory, not all of it allocated, size 0
 *   EBUSY      it is being moved: try again; or its owner permits no pin for long; or it can't be
 *              moved out: no memory, too few mappings left (vm.max_map_count), or the background
 *              thread has been in a callback of an owner for a second
 *   EOVERFLOW  pinned too often
 *   ENOMEM     no memory to note it
 *
 * What is pinned counts as allocated: unpin it before it is freed or reallocated. With check:on
 * freeing a pinned object is misuse and ends the program; otherwise its pins go some time after it.
 * realloc of a pinned object above 64 KiB always copies. Costs a lock and a bit per frame; what is
 * moved out also a few system calls, a mapping or two, and its memory until all objects in the same
 * 64 KiB are freed. */
int quire_pin(const void *p, size_t size, enum quire_pin_kind kind);

/* Takes one pin of exactly this range and kind back. 0, or EINVAL: there is none. */
int quire_unpin(const void *p, size_t size, enum quire_pin_kind kind);

/* ---- owners ---- */

/* A program that can move its own data, because it reaches it by handles or knows all pointers to
 * it, may hold frames as an owner of its own: an object pool, a cache, an interpreter's heap. It
 * allocates runs of frames (4096 bytes each) and fills them as it likes; when the heap has become
 * sparse, compaction asks it to empty its sparsest runs, and what it frees goes back to the system.
 *
 * A run is asked for in this order: describe, isolate, migrate, put_back. Verdicts: */
enum quire_verdict {
  QUIRE_DONE,
  QUIRE_BUSY,   /* not now */
  QUIRE_PINNED, /* something in it must stay where it is */
  QUIRE_NEVER,  /* not this run */
};

struct quire_owner_view {
  size_t live; /* bytes of the run that are in use */
};

/* Callbacks. cookie: as given to quire_owner_create; p and frames: the run. Each may be NULL, which
 * means what is said with it.
 *
 * They are called by the background thread, or by a thread that asked for a pass: one at a time,
 * but beside whatever the program's threads do. So:
 *   - p may be a run that another thread of the program has freed just now: its memory is still
 *     there, and goes when the callback returns. Look it up, under a lock of your own.
 *   - Don't wait for who may be waiting for you: a thread in fork(), in quire_owner_destroy() or
 *     asking for a pass does. Where threads hold your lock while they do that, try it, and return
 *     QUIRE_BUSY where it isn't to be had; trying is best in describe and isolate in any case.
 *   - Don't call malloc, free or their like, nor quire_pin, quire_compact, quire_owner_create or
 *     quire_owner_destroy. quire_owner_alloc and quire_owner_free are fine.
 *   - Return soon: data of one run is what one call should move. */
struct quire_owner_ops {
  /* How full is it? Asked of every run in every pass: cheap. NULL: it is full. */
  void (*describe)(void *cookie, const void *p, size_t frames, struct quire_owner_view *out);
  /* After QUIRE_DONE nothing new may be put there until put_back. NULL: QUIRE_DONE. */
  enum quire_verdict (*isolate)(void *cookie, void *p, size_t frames);
  /* Move what lives there into other runs, then quire_owner_free(p) and return QUIRE_DONE; or leave
   * some or all of it and say why. A few refusals in a row end this owner's part in the pass.
   * NULL: QUIRE_NEVER. */
  enum quire_verdict (*migrate)(void *cookie, void *p, size_t frames);
  /* It is over, and the run was not freed: it may be filled again. NULL: nothing to do. */
  void (*put_back)(void *cookie, void *p, size_t frames);
  /* The memory of the frame at `failed` has failed (quire_poison, in whose caller's thread this is
   * called): put nothing there any more. QUIRE_DONE: nothing lived there; else it is lost. NULL:
   * QUIRE_NEVER. */
  enum quire_verdict (*poison)(void *cookie, void *p, size_t frames, void *failed);
  /* quire_pin of memory of this run, in its caller's thread: may it be pinned so? NULL: it may. */
  bool (*may_pin)(void *cookie, void *p, size_t frames, enum quire_pin_kind kind);
};

struct quire_owner;

/* A new owner; ops must outlive it. NULL and ENOMEM. */
struct quire_owner *quire_owner_create(const struct quire_owner_ops *ops, void *cookie);

/* 0, and no callback runs any more or will; or EBUSY: it has runs. */
int quire_owner_destroy(struct quire_owner *owner);

/* A run of frames; contents are anything. NULL and ENOMEM. A run costs a descriptor of 64 bytes. */
void *quire_owner_alloc(struct quire_owner *owner, size_t frames);

/* Frees a run as it was allocated. Anything else, and any other way to free it, is misuse. */
void quire_owner_free(struct quire_owner *owner, void *p);

/* ---- failed memory ---- */

/* The memory at p has failed: touching it raised SIGBUS with BUS_MCEERR_AR, or BUS_MCEERR_AO told
 * of it. (Not to be called from the handler of that signal.) Its frame is never handed out again.
 * 0: nothing lived in this frame; or an error number: EIO, something did, and is lost: free it
 * without looking at it; EBUSY, try again; EINVAL, not quire's memory. */
int quire_poison(const void *p);

/* ---- what a pointer is ---- */

enum quire_kind {
  QUIRE_FOREIGN = 0, /* not in quire's arena */
  QUIRE_UNUSED,      /* in the arena, in a frame that belongs to nobody */
  QUIRE_OBJECT,      /* in a slot of a slab */
  QUIRE_FOLIO,       /* in a large allocation */
  QUIRE_INTERNAL,    /* quire's own, or set aside: a slab's tail, a folio's guard */
  QUIRE_OWNED,       /* in a run that an owner of the program's has (quire_owner_alloc) */
};

struct quire_description {
  enum quire_kind kind;
  bool allocated; /* of an object: its slot is taken (it may still wait in a thread's cache) */
  bool pinned;
  const void *start;            /* of the object, folio or run that p lies in */
  size_t size;                  /* its usable size */
  uint64_t pfn;                 /* frame number of p */
  size_t slab_slots, slab_free; /* of an object's slab */
};

/* Describes any address, valid or not. Takes no lock and never touches what p points to: may be
 * called from a signal handler. While other threads allocate the answer is of some moment during
 * the call. */
void quire_describe(const void *p, struct quire_description *out);

/* ---- a walk over the heap ---- */

enum quire_walk_type {
  QUIRE_WALK_FREE,
  QUIRE_WALK_SLAB,
  QUIRE_WALK_FOLIO,
  QUIRE_WALK_OTHER,
  QUIRE_WALK_OWNED,
};

struct quire_walk_item {
  enum quire_walk_type type;
  const void *start;
  size_t frames;      /* length of the run */
  size_t object_size; /* of a slab's slots; the folio's or owned run's size */
  size_t slots, free_slots;
  size_t resident; /* frames of it that may hold memory */
};

/* Calls visit for each run of frames of one owner, in address order, until it returns nonzero, and
 * returns that (0 at the end). No lock is held meanwhile, so visit may allocate; runs that change
 * during the walk may be seen as they were or as they are, or in part. */
int quire_walk(int (*visit)(const struct quire_walk_item *item, void *arg), void *arg);

/* ---- for readers in other processes ---- */

#define QUIRE_PEEK_MAGIC 0x5155495245504b31ull /* "QUIREPK1" */
#define QUIRE_PEEK_VERSION 2

/* Numbers that the library counts, each in one place: struct quire_peek tells where. Those that
 * struct quire_stats has too are meant as there. */
enum quire_peek_number {
  QUIRE_PEEK_FRAMES_USED,
  QUIRE_PEEK_FRAMES_DIRTY,
  QUIRE_PEEK_FRAMES_OPENED,
  QUIRE_PEEK_FRAMES_PEAK,
  QUIRE_PEEK_HUGEPAGES,
  QUIRE_PEEK_HUGE_ADVISED,
  QUIRE_PEEK_HUGE_FALLBACKS,
  QUIRE_PEEK_HUGE_STALLS, /* hugepages that came, but only after long */
  QUIRE_PEEK_DISCARDS,
  QUIRE_PEEK_DISCARDED,
  QUIRE_PEEK_DISCARD_FAILURES,
  QUIRE_PEEK_MOVES,
  QUIRE_PEEK_HOLLOW,
  QUIRE_PEEK_ZONE,
  QUIRE_PEEK_GUESTS,
  QUIRE_PEEK_FROZEN,
  QUIRE_PEEK_MAPPINGS,
  QUIRE_PEEK_MAPPINGS_MOST,  /* vm.max_map_count when the zone was opened */
  QUIRE_PEEK_REMAP_FAILURES, /* mappings that the kernel refused */
  QUIRE_PEEK_FREEZES,
  QUIRE_PEEK_BACKING_BYTES, /* of the table of backings: metadata */
  QUIRE_PEEK_MESH_STATE,
  QUIRE_PEEK_COMPACTIONS,
  QUIRE_PEEK_HOLLOWED,
  QUIRE_PEEK_MESHED,
  QUIRE_PEEK_MESH_RUNS, /* remaps that `meshed` took */
  QUIRE_PEEK_PINNED,
  QUIRE_PEEK_UNPLACED,  /* frames for which the last pass had no host */
  QUIRE_PEEK_CONVERTED, /* hugepages that became the zone's so far */
  QUIRE_PEEK_REFUSED,   /* that did not, for a pin or the kernel */
  QUIRE_PEEK_OWNED_FRAMES,
  QUIRE_PEEK_FRAMES_PINNED,
  QUIRE_PEEK_FRAMES_POISONED,
  QUIRE_PEEK_NFOLIOS,
  QUIRE_PEEK_NCACHES,
  QUIRE_PEEK_RECLAIMED,
  QUIRE_PEEK_NODES_COUNT, /* nodes, that of no known node included: 1 while the heap isn't divided
                           */
  QUIRE_PEEK_NODES_BYTES, /* of the lists by node: metadata */
  QUIRE_PEEK_NUMA_STATE,
  QUIRE_PEEK_BROUGHT_FOLIOS,
  QUIRE_PEEK_BROUGHT,
  QUIRE_PEEK_BROUGHT_NOT,
  QUIRE_PEEK_DESCRIPTOR_BYTES, /* of the region of descriptors, handed out so far: metadata */
  QUIRE_PEEK_NUMBERS,
};

struct quire_peek_place {
  uint64_t address;
  uint64_t size; /* 4 or 8 */
};

/* Found by the symbol `quire_peek`; read with process_vm_readv. All addresses are the target's,
 * numbers are in its byte order, and what is said below of offsets is from the beginning of a
 * record.
 *
 * A word of the memmap: bits 0-3 type (0 none, 1 free, 2 slab, 3 folio, 4 meta, 5 owned, 6 poison,
 * 7 reserved), 4-7 flags (isolated, pinned, host, guest), 8-15 size class, 16-63 address of the
 * owner's descriptor. Protocol: load the word, check the type, read the descriptor, load the word
 * again, compare; on any difference what was read means nothing. Descriptors are type-stable:
 * memory that held a slab's only ever holds slabs', and its first eight bytes tell the cache it is
 * of (desc_*). They lie in one region, so that it can be read in one piece between two readings of
 * the memmap. A folio that grows or shrinks in place may for a moment not name a frame that names
 * it: look again. A slab's bitmap has a bit per slot, set while it is free, in (nslots + 63) / 64
 * words of 64 bits; while its owner is at work it may disagree with nfree. In a host a slot is also
 * taken while one of a guest lives in its place: a record that its record of meshing leads to
 * tells which. */
struct quire_peek {
  uint64_t magic;
  uint32_t version;
  uint32_t size; /* of this struct */
  uint64_t base, arena_size, memmap, hugepages;
  uint64_t nhugepages;
  uint64_t opened_address; /* of a uint32_t: hugepages opened so far */
  uint32_t frame_size, frames_per_hugepage;
  uint64_t classes_address; /* of nclasses records of class_stride bytes, which begin with the
                               size in bytes (uint32_t), and the frames and slots of a slab (two
                               uint16_t; of the larger classes, which are folios', frames and 1) */
  uint32_t nclasses, class_stride;
  uint32_t hugepage_stride;
  uint32_t hugepage_used, hugepage_resident, hugepage_zero; /* offsets of 64-byte bitmaps */
  uint32_t slab_pfn, slab_nfree, slab_nslots, slab_nframes, slab_class, slab_free; /* offsets */
  uint32_t folio_pfn, folio_nframes, folio_class;                                  /* offsets */
  /* From version 2 on. */
  uint32_t page_size;       /* the system's */
  char library[16];         /* QUIRE_VERSION */
  uint64_t reserved;        /* bytes of address space */
  uint32_t nslab_classes;   /* classes below this one are slabs' */
  uint32_t background_tid;  /* of the background thread, in its own pid namespace; 0: none */
  uint64_t options_address; /* of noptions size_t, in the order in which this file lists them; */
  uint32_t noptions;        /* of a choice, its index */
  int32_t mailbox_fd;       /* descriptor of struct quire_mailbox in that thread's own table
                               (/proc/PID/task/TID/fd/N); -1: has none */
  uint64_t mailbox_address; /* where that is mapped (also by /proc/PID/map_files); 0: none */
  uint64_t descriptors;     /* the region: QUIRE_PEEK_DESCRIPTOR_BYTES of it are in use */
  uint64_t desc_slab_small, desc_slab_large, desc_folio, desc_owned, desc_mesh, desc_cache;
  uint64_t desc_blocked_small, desc_blocked_large;
  uint32_t hugepage_state; /* offset of a uint8_t: 0 unopened, 1 empty, 2 partial, 3 full, 4 set
                              aside */
  uint32_t hugepage_kind;  /* of a uint8_t, while partial or full: 0 slabs, 1 folios, 2 the zone */
  uint32_t hugepage_flags; /* of a uint8_t: 1 a hugepage was asked for, 2 from the reserved pool, 4
                              populated, 16 the zone's or a given-up zone's, 32 and 64 being
                              changed, 8 page tables were moved */
  uint32_t slab_state;     /* of a uint8_t: 0 none, 1 partial, 2 full, 3 isolated, 4 guest, 5
                              retired for failed memory */
  uint32_t slab_pins;      /* of a uint16_t */
  uint32_t slab_holes;     /* of a uint32_t: bit i: frame i holds no memory of its own */
  uint32_t slab_mesh;      /* of a uint64_t: address of its record of meshing, mostly 0 */
  uint32_t mesh_blocked;   /* of a uint64_t: address of a host's record of what guests use, or 0 */
  uint32_t blocked_slots;  /* in that, of a bitmap as long as the slab's */
  uint32_t folio_nguard;   /* of a uint32_t: frames without access behind nframes */
  uint32_t folio_refs;     /* of a uint32_t: bits 2 and up count pins */
  uint32_t owned_pfn, owned_nframes, owned_refs; /* as a folio's */
  uint32_t cache_next, cache_tid;                /* of a thread cache: uint64_t, int32_t */
  uint32_t cache_tops;          /* of a uint64_t per class: address of the last object's slot */
  uint32_t cache_slots;         /* of the slots; class c's begin behind slot cache_first[c] */
  uint64_t cache_first_address; /* of nclasses + 1 uint16_t; a top at slot cache_first[nclasses]
                                   is of a stack that is being taken: nothing can be said */
  uint64_t caches_address;      /* of a uint64_t: address of the first thread cache */
  uint64_t backing_address;     /* of a uint64_t: address of the table of backings, 0 before there
                                   is one. A uint32_t per frame: 0 private memory; else its frame
                                   of the zone + 1, and bit 31 when that zone was given up */
  uint64_t bins_address;        /* of nslab_classes records of bin_stride bytes */
  uint32_t bin_stride;
  uint32_t bin_nslabs, bin_nblocked;                 /* offsets of uint32_t */
  uint32_t bin_free_slots, bin_refills, bin_flushes; /* of uint64_t; slots a host keeps for guests
                                                        (nblocked) are not among free_slots */
  uint64_t transfers_address;           /* of nclasses records of transfer_stride bytes */
  uint32_t transfer_stride, transfer_n; /* offset of a uint32_t: objects in the transfer area */
  uint64_t transfer_bytes; /* of a class's transfer area: metadata once it has flushes (of classes
                              that are folios': while it has objects) */
  uint64_t frames_bytes;   /* metadata of the frame allocator, to which come 3/8 of a byte per
                              hugepage opened; a bin is metadata once it has refills */
  uint64_t
      node_frames_address;  /* of QUIRE_NODES_MAX + 1 uint64_t: as struct quire_stats has them */
  uint64_t shelves_address; /* of a uint64_t: address of an array of shelf_stride bytes for node 1
                               and each further one; in it bins, as at bins_address, and at
                               shelf_transfers transfer areas, as at transfers_address */
  uint32_t shelf_stride, shelf_transfers;
  struct quire_peek_place numbers[QUIRE_PEEK_NUMBERS];
};

/* What another process may ask for, and all that it may write: one page of shared memory, mapped
 * from background_tid's descriptor mailbox_fd, or, where that is -1, by mailbox_address. To ask:
 * count asked[what] up, then `bell`, and wake the futex (not private) at `bell`. It is over when
 * done[what] has come to be what asked[what] was then, or is beyond; the futex at done[what] is
 * woken, and gained[what] tells the bytes. */
enum quire_mail { QUIRE_MAIL_PURGE, QUIRE_MAIL_COMPACT, QUIRE_MAILS };

#define QUIRE_MAILBOX_MAGIC 0x51424f58u

struct quire_mailbox {
  uint32_t magic;
  uint32_t bell;
  uint32_t asked[QUIRE_MAILS];
  uint32_t done[QUIRE_MAILS];
  uint64_t gained[QUIRE_MAILS];
};

extern struct quire_peek quire_peek; /* filled in when the heap is ready: magic is 0 before */

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
