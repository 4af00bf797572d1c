/* Reading recordings. Nothing in a file is believed: lengths lie within it, checksums hold, columns
 * are as long as the counts say, and what comes out is a sound snapshot or an error. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "tools/quire/recording.h"

enum { FRAME_BYTES = 16, ZLIB_RATIO_MAX = 1040 };

static uint32_t checksum(const void *bytes, size_t size) {
  return (uint32_t)crc32_z(crc32_z(0, NULL, 0), bytes, size);
}

__attribute__((format(printf, 2, 3))) static bool fail(char error[RECORDING_ERROR_MAX],
                                                       const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(error, RECORDING_ERROR_MAX, format, args);
  va_end(args);
  return false;
}

/* ---- opening ---- */

static bool map_file(struct recording *r, const char *path, char error[RECORDING_ERROR_MAX]) {
  struct stat st;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail(error, "%s: %s", path, strerror(errno));
  bool ok = fstat(fd, &st) == 0;
  if (ok && !S_ISREG(st.st_mode)) {
    close(fd);
    return fail(error, "%s is not a file", path);
  }
  if (ok && st.st_size >= (off_t)sizeof r->header) {
    void *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    ok = bytes != MAP_FAILED;
    if (ok) r->bytes = bytes;
    if (ok) r->size = (uint64_t)st.st_size;
  } else if (ok) {
    close(fd);
    return fail(error, "%s is no recording: it is too short", path);
  }
  int because = errno;
  close(fd);
  return ok || fail(error, "%s: %s", path, strerror(because));
}

static bool check_header(struct recording *r, const char *path, char error[RECORDING_ERROR_MAX]) {
  struct recording_header *h = &r->header;
  memcpy(h, r->bytes, sizeof *h);
  if (memcmp(h->magic, RECORDING_MAGIC, sizeof h->magic) != 0)
    return fail(error, "%s is no recording of quire", path);
  if (h->version != RECORDING_VERSION)
    return fail(error, "%s is a recording of version %u, and this is a quire for version %d", path,
                h->version, RECORDING_VERSION);
  if (h->checksum != checksum(h, offsetof(struct recording_header, checksum)))
    return fail(error, "%s is damaged: its header's checksum is wrong", path);
  if (h->size != sizeof *h || h->frame_bytes != FRAME_BYTES ||
      h->hugepage_bytes != sizeof(struct snapshot_hugepage) ||
      h->run_bytes != sizeof(struct snapshot_run) ||
      h->numbers_bytes != sizeof(struct snapshot_numbers))
    return fail(error, "%s was written by another version of quire", path);
  const struct snapshot_process *p = &h->process;
  if (memchr(p->comm, 0, sizeof p->comm) == NULL ||
      memchr(p->cmdline, 0, sizeof p->cmdline) == NULL)
    return fail(error, "%s is damaged: names without an end", path);
  return true;
}

/* The length of the entry at an offset, head and all; 0 where there is no whole one. */
static uint64_t entry_at(const struct recording *r, uint64_t offset) {
  struct recording_entry e;
  if (r->size - offset < sizeof e) return 0;
  memcpy(&e, r->bytes + offset, sizeof e);
  if (e.magic != RECORDING_ENTRY_MAGIC || e.kind > RECORDING_DELTA ||
      e.checksum != checksum(&e, offsetof(struct recording_entry, checksum)) ||
      e.length > r->size - offset - sizeof e || e.raw != columns_size(e.nframes, e.nruns) ||
      e.raw == 0 || e.raw / ZLIB_RATIO_MAX > e.length)
    return 0;
  if (e.data_checksum != checksum(r->bytes + offset + sizeof e, e.length)) return 0;
  uint64_t length = sizeof e + ((uint64_t)e.length + 7) / 8 * 8;
  return length <= r->size - offset ? length : 0;
}

static bool find_entries(struct recording *r) {
  uint64_t offset = sizeof r->header, length;
  uint32_t most = 0;
  while (r->count < UINT32_MAX && (length = entry_at(r, offset)) != 0) {
    if (r->count == most) {
      most = most == 0 ? 64 : most * 2;
      uint64_t *more = realloc(r->offsets, most * sizeof *more);
      if (more == NULL) return false;
      r->offsets = more;
    }
    r->offsets[r->count++] = offset;
    offset += length;
  }
  r->good = offset;
  return true;
}

static bool open_mapped(struct recording *r, const char *path, char error[RECORDING_ERROR_MAX]) {
  if (!check_header(r, path, error)) return false;
  if (!find_entries(r)) return fail(error, "no memory for %s", path);
  if (r->count == 0) return fail(error, "%s holds no whole snapshot", path);
  if (recording_entry(r, 0)->kind != RECORDING_KEY)
    return fail(error, "%s is damaged: it begins with a difference", path);
  return true;
}

bool recording_open(struct recording *out, const char *path, char error[RECORDING_ERROR_MAX]) {
  memset(out, 0, sizeof *out);
  out->at = UINT32_MAX;
  if (map_file(out, path, error) && open_mapped(out, path, error)) return true;
  recording_close(out);
  return false;
}

void recording_close(struct recording *r) {
  if (r->bytes != NULL) munmap((void *)r->bytes, r->size);
  free(r->offsets);
  columns_free(&r->now);
  memset(r, 0, sizeof *r);
}

/* ---- entries ---- */

const struct recording_entry *recording_entry(const struct recording *r, uint32_t index) {
  return (const struct recording_entry *)(r->bytes + r->offsets[index]);
}

double recording_seconds(const struct recording *r, uint32_t index) {
  uint64_t first = recording_entry(r, 0)->time_ns, at = recording_entry(r, index)->time_ns;
  return at <= first ? 0 : (double)(at - first) / 1e9;
}

uint32_t recording_find(const struct recording *r, double seconds) {
  uint32_t found = 0;
  for (uint32_t i = 1; i < r->count; i++)
    if (recording_seconds(r, i) <= seconds + 1e-9) found = i;
  return found;
}

/* Makes r->now entry `index`, where r->at is the one before it, or `index` is a key. */
static bool step(struct recording *r, uint32_t index) {
  struct recording_entry e = *recording_entry(r, index);
  struct columns next = {.nframes = e.nframes, .nruns = e.nruns, .size = e.raw};
  uLongf length = e.raw;
  const uint8_t *packed = r->bytes + r->offsets[index] + sizeof e;
  bool ok = columns_reserve(&next, e.raw) &&
            uncompress(next.bytes, &length, packed, e.length) == Z_OK && length == e.raw;
  if (ok && e.kind == RECORDING_DELTA) columns_mix(&next, &r->now);
  ok = ok && columns_index(&next);
  columns_free(&r->now);
  r->at = UINT32_MAX;
  if (!ok) {
    columns_free(&next);
    return false;
  }
  r->now = next;
  r->at = index;
  return true;
}

static bool seek(struct recording *r, uint32_t index) {
  uint32_t from = index;
  while (from > 0 && from != r->at && recording_entry(r, from)->kind != RECORDING_KEY) from--;
  if (from != r->at && !step(r, from)) return false;
  while (from < index)
    if (!step(r, ++from)) return false;
  return true;
}

bool recording_read(struct recording *r, uint32_t index, struct snapshot *out,
                    char error[RECORDING_ERROR_MAX]) {
  if (!seek(r, index)) return fail(error, "snapshot %u can't be unpacked", index + 1);
  if (!columns_to(&r->now, out)) return fail(error, "snapshot %u is damaged", index + 1);
  const struct recording_entry *e = recording_entry(r, index);
  out->process = r->header.process;
  out->process.time_ns = e->time_ns;
  out->base = e->base;
  out->took_us = e->took_us;
  out->nunsure = e->nunsure;
  return true;
}

bool recording_damage(const struct recording *r, const char *path, char text[RECORDING_ERROR_MAX]) {
  if (r->good == r->size) return false;
  snprintf(text, RECORDING_ERROR_MAX,
           "%.200s is cut off or damaged behind its snapshot %u, at %.1f s", path, r->count,
           recording_seconds(r, r->count - 1));
  return true;
}
