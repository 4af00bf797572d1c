/* Writing recordings. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "tools/quire/recording.h"

enum { FRAME_BYTES = 16 };

static uint32_t checksum(const void *bytes, size_t size) {
  return (uint32_t)crc32_z(crc32_z(0, NULL, 0), bytes, size);
}

static bool put(struct recorder *r, const void *bytes, size_t size) {
  if (fwrite(bytes, 1, size, r->file) != size) return false;
  r->written += size;
  return true;
}

bool recorder_open(struct recorder *out, FILE *file, const struct snapshot_process *process) {
  struct recording_header header;
  memset(out, 0, sizeof *out);
  memset(&header, 0, sizeof header);
  out->file = file;
  memcpy(header.magic, RECORDING_MAGIC, sizeof header.magic);
  header.version = RECORDING_VERSION;
  header.size = sizeof header;
  header.frame_bytes = FRAME_BYTES;
  header.hugepage_bytes = sizeof(struct snapshot_hugepage);
  header.run_bytes = sizeof(struct snapshot_run);
  header.numbers_bytes = sizeof(struct snapshot_numbers);
  header.process = *process;
  header.checksum = checksum(&header, offsetof(struct recording_header, checksum));
  return put(out, &header, sizeof header) && fflush(file) == 0;
}

/* Compresses `c` into r->packed; how long that is, 0 without memory. Fast rather than small: most
 * of a delta is zeros, and the target should be looked at again soon. */
static uint64_t pack(struct recorder *r, const struct columns *c) {
  uLongf length = compressBound(c->size);
  if (length > r->packed_capacity) {
    uint8_t *more = realloc(r->packed, length);
    if (more == NULL) return 0;
    r->packed = more;
    r->packed_capacity = length;
  }
  if (compress2(r->packed, &length, c->bytes, c->size, Z_BEST_SPEED) != Z_OK) return 0;
  return length > UINT32_MAX ? 0 : length;
}

static uint64_t held(const struct snapshot *s) {
  uint64_t n = 0;
  for (uint32_t i = 0; i < s->nframes; i++)
    n += (s->frames[i].flags & (SNAPSHOT_RESIDENT | SNAPSHOT_GUEST)) == SNAPSHOT_RESIDENT;
  return n;
}

static bool write_entry(struct recorder *r, const struct snapshot *s, const struct columns *c,
                        enum recording_kind kind) {
  static const char zeros[8];
  struct recording_entry entry;
  uint64_t length = pack(r, c);
  if (length == 0) {
    errno = ENOMEM;
    return false;
  }
  memset(&entry, 0, sizeof entry);
  entry.magic = RECORDING_ENTRY_MAGIC;
  entry.kind = kind;
  entry.length = (uint32_t)length;
  entry.data_checksum = checksum(r->packed, length);
  entry.raw = c->size;
  entry.nframes = s->nframes;
  entry.nruns = s->nruns;
  entry.time_ns = s->process.time_ns;
  entry.base = s->base;
  entry.took_us = s->took_us;
  entry.nunsure = s->nunsure;
  entry.held = held(s);
  entry.live = s->numbers.stats.live;
  entry.checksum = checksum(&entry, offsetof(struct recording_entry, checksum));
  return put(r, &entry, sizeof entry) && put(r, r->packed, length) && put(r, zeros, -length % 8) &&
         fflush(r->file) == 0;
}

bool recorder_add(struct recorder *r, const struct snapshot *s) {
  struct columns now = {0}, delta = {0};
  bool is_key = r->count == 0 || r->since_key + 1 >= RECORDING_KEY_EVERY, ok;
  errno = ENOMEM;
  ok = columns_from(s, &now);
  if (ok && is_key) {
    ok = write_entry(r, s, &now, RECORDING_KEY);
  } else if (ok) {
    ok = columns_reserve(&delta, now.size);
    if (ok) {
      memcpy(delta.bytes, now.bytes, now.size);
      delta.nframes = now.nframes;
      delta.nruns = now.nruns;
      delta.size = now.size;
      columns_mix(&delta, &r->before);
      ok = write_entry(r, s, &delta, RECORDING_DELTA);
    }
    columns_free(&delta);
  }
  if (!ok) {
    int error = errno;
    columns_free(&now);
    errno = error;
    return false;
  }
  columns_free(&r->before);
  r->before = now;
  r->count++;
  r->since_key = is_key ? 0 : r->since_key + 1;
  return true;
}

void recorder_close(struct recorder *r) {
  columns_free(&r->before);
  free(r->packed);
  memset(r, 0, sizeof *r);
}
