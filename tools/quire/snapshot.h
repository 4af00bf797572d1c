/* A snapshot: the whole heap of a target as it was at one time, in this process's memory.
 *
 * Frames, hugepages and runs are arrays of plain records without pointers, so that they can be
 * compared, written to a file and read back as they are. Whatever the target does meanwhile, and
 * whatever its memory holds, a snapshot that was read is sound: indices lie within their arrays,
 * runs within the frames, free slots are at most the slots, flags and types are known ones.
 * snapshot_sound() says so of one that comes from elsewhere. While the target works, records of
 * different frames are of slightly different moments; frames whose owner kept changing are marked
 * (SNAPSHOT_UNSURE). Of a stopped target all is exact. */
#ifndef QUIRE_TOOLS_SNAPSHOT_H
#define QUIRE_TOOLS_SNAPSHOT_H

#include "quire.h"
#include "tools/quire/target.h"

/* As a memdesc's types (quire.h, struct quire_peek). */
enum snapshot_type {
  SNAPSHOT_NONE, /* never used */
  SNAPSHOT_FREE,
  SNAPSHOT_SLAB,
  SNAPSHOT_FOLIO,
  SNAPSHOT_META,
  SNAPSHOT_OWNED,
  SNAPSHOT_POISON,
  SNAPSHOT_RESERVED,
  SNAPSHOT_TYPES,
};

const char *snapshot_type_name(unsigned type); /* "slab"; of any number */

enum snapshot_flag {
  SNAPSHOT_ISOLATED = 1 << 0, /* compaction works on its owner */
  SNAPSHOT_PINNED = 1 << 1,
  SNAPSHOT_HOST = 1 << 2,       /* other frames are mapped onto its memory */
  SNAPSHOT_GUEST = 1 << 3,      /* its memory is another frame's: `memory` says whose */
  SNAPSHOT_HOME = 1 << 4,       /* its memory is the zone's, at its own place: can be a host's */
  SNAPSHOT_FROZEN = 1 << 5,     /* its memory was the zone's when the process forked */
  SNAPSHOT_USED = 1 << 6,       /* handed out by the frame allocator */
  SNAPSHOT_RESIDENT = 1 << 7,   /* may hold memory (a guest's counts as not its own: see HOLE) */
  SNAPSHOT_ZERO = 1 << 8,       /* known to read as zeros */
  SNAPSHOT_HOLE = 1 << 9,       /* inside a slab, without memory of its own */
  SNAPSHOT_DISCARDED = 1 << 10, /* free, and holds no memory */
  SNAPSHOT_GUARD = 1 << 11,     /* behind a folio, without access */
  SNAPSHOT_HUGE = 1 << 12,      /* in a hugepage for which the kernel was asked */
  SNAPSHOT_UNSURE = 1 << 13,    /* changed hands each time it was looked at: type alone is known */
};

#define SNAPSHOT_NO_RUN UINT32_MAX

struct snapshot_frame {
  uint32_t run;    /* index of its run; SNAPSHOT_NO_RUN while it is free or never used, or unsure */
  uint32_t memory; /* the frame at whose place it has its memory: its own number but for guests */
  uint8_t type;    /* enum snapshot_type */
  uint8_t size_class;
  uint8_t occupancy; /* how much of its owner lives, guests' objects in a host included: 0 to 255;
                        255 of a folio or an owned run */
  uint8_t fill;      /* the same of this frame alone */
  uint16_t flags;    /* enum snapshot_flag */
  uint16_t guests;   /* frames mapped onto its memory */
};

struct snapshot_hugepage {
  /* Frames of it: */
  uint16_t used, resident, zero;
  uint16_t guests, homes, frozen, pinned, holes;
  uint8_t state; /* as quire_peek.hugepage_state says; 4 and above: set aside */
  uint8_t kind;
  uint8_t flags;
  uint8_t unused_byte;
};

/* Frames that have one owner, or, of types without an owner (meta, poison, reserved), that follow
 * each other in one hugepage. In address order of the first frames. */
struct snapshot_run {
  uint32_t first, nframes; /* nframes includes the guard */
  uint32_t nguard;
  uint8_t type; /* enum snapshot_type */
  uint8_t size_class;
  uint8_t state; /* of a slab: as quire_peek.slab_state */
  uint8_t unused_byte;
  uint64_t object_size; /* bytes: of a slot; of all of a folio or owned run */
  uint32_t slots;       /* of a slab, else 0 */
  uint32_t free_slots;  /* by the bitmap; of a host without those that guests use */
  uint32_t blocked;     /* slots of a host in whose place a guest's object lives */
  uint32_t pins;
};

/* One size class: objects but for `size`. */
struct snapshot_class {
  uint32_t size;           /* bytes */
  uint32_t slots, nframes; /* of a slab; 1 and frames of a folio */
  uint64_t nslabs, free_slots, cached, transfer;
};

enum { SNAPSHOT_CLASSES = 256, SNAPSHOT_OPTIONS = 64 };

/* The numbers alone: cheap to read, some microseconds. */
struct snapshot_numbers {
  char library[16];         /* version of the target's library */
  struct quire_stats stats; /* what quire_stats would say in the target */
  uint64_t slab_tails;      /* bytes, of stats.slab_free: behind the last slot */
  uint64_t huge_stalls;     /* the following are as in enum quire_peek_number */
  uint64_t mappings_most, remap_failures, mesh_runs, unplaced, converted, refused;
  uint64_t background_tid; /* in the target's own pid namespace; 0: no such thread */
  int64_t mailbox_fd;      /* -1: none */
  uint64_t nclasses, noptions;
  uint64_t options[SNAPSHOT_OPTIONS]; /* as alloc/options.h orders them */
  struct snapshot_class classes[SNAPSHOT_CLASSES];
};

/* Of whom and when; filled in by who knows (tools/quire/process.h), not by snapshot_read. */
struct snapshot_process {
  uint64_t pid;
  uint64_t time_ns;  /* CLOCK_REALTIME */
  char comm[32];     /* NUL-terminated, without control characters */
  char cmdline[224]; /* the same: arguments with blanks between, cut if need be */
};

struct snapshot {
  struct snapshot_process process;
  struct snapshot_numbers numbers;
  uint64_t base;    /* the address of frame 0 */
  uint64_t took_us; /* how long reading it took */
  uint64_t nunsure; /* frames marked SNAPSHOT_UNSURE */
  uint32_t nframes; /* a multiple of 512; 0 when nothing was opened yet */
  uint32_t nhugepages, nruns;
  struct snapshot_frame *frames;
  struct snapshot_hugepage *hugepages;
  struct snapshot_run *runs;
};

enum snapshot_status {
  SNAPSHOT_OK,
  SNAPSHOT_UNREADABLE, /* gone, or not permitted; errno says */
  SNAPSHOT_NOT_READY,  /* nothing was allocated yet: there is no heap */
  SNAPSHOT_VERSION,    /* a version of quire that this reader doesn't know */
  SNAPSHOT_GARBAGE,    /* what was read can't be a heap */
  SNAPSHOT_NO_MEMORY,  /* here */
};

const char *snapshot_status_text(enum snapshot_status status);

/* Reads the header and checks it. */
enum snapshot_status snapshot_header(struct target *target, struct quire_peek *out);

/* Reads the numbers; with the header given. */
enum snapshot_status snapshot_stats(struct target *target, const struct quire_peek *header,
                                    struct snapshot_numbers *out);

/* Reads all of it, numbers included; `process` is zeros. On SNAPSHOT_OK it is to be freed. */
enum snapshot_status snapshot_read(struct target *target, struct snapshot *out);
void snapshot_free(struct snapshot *snapshot);

/* Is every index, count and code in its bounds? */
bool snapshot_sound(const struct snapshot *snapshot);

#endif
