/* Recordings: snapshots over time in one file (docs/recording-format.md describes it byte by byte).
 *
 * A header, then one entry per snapshot: a head with lengths, checksums and the time, and zlib's
 * output of the snapshot's columns. A key entry holds them as they are, a delta what differs from
 * the entry before (exclusive or). Every entry is written whole and nothing is written twice, so a
 * file that ends anywhere is good up to its last whole entry. The page (page/recording.js) reads
 * the same bytes. */
#ifndef QUIRE_TOOLS_RECORDING_H
#define QUIRE_TOOLS_RECORDING_H

#include <stdio.h>

#include "tools/quire/snapshot.h"

#define RECORDING_MAGIC "quirerec"

enum {
  RECORDING_VERSION = 1,
  RECORDING_ENTRY_MAGIC = 0x706e7371, /* "qsnp" */
  RECORDING_KEY_EVERY = 30,           /* entries from one key to the next */
  RECORDING_ERROR_MAX = 320,
};

/* In the machine's byte order; both that quire knows are little-endian. */
struct recording_header {
  char magic[8];
  uint32_t version;
  uint32_t size; /* of this */
  uint32_t frame_bytes, hugepage_bytes, run_bytes, numbers_bytes;
  struct snapshot_process process; /* time_ns: of the first snapshot */
  uint64_t reserved;
  uint32_t reserved_too;
  uint32_t checksum; /* crc32 of all before it */
};

_Static_assert(sizeof(struct recording_header) == 320, "the format says 320");

enum recording_kind { RECORDING_KEY, RECORDING_DELTA };

struct recording_entry {
  uint32_t magic;
  uint32_t kind;
  uint32_t length; /* of the compressed columns that follow, and zeros up to a multiple of 8 */
  uint32_t data_checksum;
  uint64_t raw; /* length of the columns */
  uint32_t nframes, nruns;
  uint64_t time_ns, base, took_us;
  uint64_t nunsure, held, live; /* frames, frames with memory, bytes: to be shown without reading */
  uint32_t reserved;
  uint32_t checksum; /* crc32 of all before it */
};

_Static_assert(sizeof(struct recording_entry) == 88, "the format says 88");

/* ---- columns ---- */

struct columns {
  uint32_t nframes, nruns;
  uint8_t *bytes; /* as said in columns.c */
  uint64_t size, capacity;
  uint32_t *run_at; /* of the same: by frame, the run that begins there; SNAPSHOT_NO_RUN */
};

/* How long; 0 for counts that can't be. */
uint64_t columns_size(uint32_t nframes, uint32_t nruns);

/* False without memory. */
bool columns_from(const struct snapshot *snapshot, struct columns *out);
/* Frames, hugepages, runs and numbers; the rest is zeros. False without memory or if what is there
 * is no sound snapshot; then nothing is to be freed. */
bool columns_to(const struct columns *columns, struct snapshot *out);

/* `c` becomes what differs from `before`, or from such a difference what it was. */
void columns_mix(struct columns *c, const struct columns *before);

/* Fills in run_at, which being `before` needs. False without memory. */
bool columns_index(struct columns *c);

bool columns_reserve(struct columns *c, uint64_t size);
void columns_free(struct columns *c);

/* ---- writing ---- */

struct recorder {
  FILE *file; /* not owned */
  struct columns before;
  uint8_t *packed;
  uint64_t packed_capacity;
  uint64_t written; /* bytes */
  uint32_t count;
  uint32_t since_key;
};

/* Each returns false with errno; the recorder is to be closed all the same, and what was written
 * stays good. */
bool recorder_open(struct recorder *out, FILE *file, const struct snapshot_process *process);
bool recorder_add(struct recorder *recorder, const struct snapshot *snapshot);
void recorder_close(struct recorder *recorder);

/* ---- reading ---- */

struct recording {
  struct recording_header header;
  const uint8_t *bytes; /* the file, mapped */
  uint64_t size;
  uint64_t good; /* bytes up to the end of the last whole entry; less than size: it is cut off */
  uint32_t count;
  uint64_t *offsets; /* of entries */
  struct columns now;
  uint32_t at; /* the entry that `now` is; UINT32_MAX: none */
};

/* False with a sentence in `error`. A recording without any whole snapshot is an error too. */
bool recording_open(struct recording *out, const char *path, char error[RECORDING_ERROR_MAX]);
void recording_close(struct recording *recording);

const struct recording_entry *recording_entry(const struct recording *recording, uint32_t index);
double recording_seconds(const struct recording *recording, uint32_t index); /* since the first */

/* The last snapshot taken at that many seconds after the first, or before. */
uint32_t recording_find(const struct recording *recording, double seconds);

/* A snapshot, to be freed. Going forward is cheap. */
bool recording_read(struct recording *recording, uint32_t index, struct snapshot *out,
                    char error[RECORDING_ERROR_MAX]);

/* What comes behind a damaged place is lost, and one should know: is there one, and a sentence that
 * says where. */
bool recording_damage(const struct recording *recording, const char *path,
                      char text[RECORDING_ERROR_MAX]);

#endif
