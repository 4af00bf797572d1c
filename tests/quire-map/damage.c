/*
 * Damages a recording in every way it can think of, and reads it: it must be refused or give sound
 * snapshots that can be drawn, and never touch memory that isn't its own (this is compiled with
 * the sanitizers).
 *
 * usage: damage RECORDING ROUNDS
 *
 * Prints one line: how many of the damaged files were refused, and how many snapshots were read.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "tools/quire/recording.h"
#include "tools/quire/screen.h"

static uint64_t state = 88172645463325252ull;

static uint64_t below(uint64_t n) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return n == 0 ? 0 : state % n;
}

static unsigned long refused, whole, broken;
static struct screen_cell cells[80 * 24];

static void die(const char *what) {
  printf("wrong: %s\n", what);
  exit(1);
}

/* Whatever it holds, it can be shown. */
static void show(const struct snapshot *s) {
  struct picture picture;
  struct screen screen = {cells, 80, 80, 24};
  struct screen_style style = {.colour = below(2), .unicode = true};
  char text[200];
  if (!snapshot_sound(s)) die("an unsound snapshot was accepted");
  if (!picture_make(s, &picture)) return;
  if (screen_page(&screen, s, &picture, &style) > 24) die("a page is too long");
  for (unsigned i = 0; i < 64 && s->nframes > 0; i++)
    picture_describe(s, (uint32_t)below(s->nframes), text, sizeof text);
  picture_free(&picture);
}

/* Returns how many entries the file had for the reader. */
static uint32_t read_all(const char *path) {
  static struct recording r; /* as a caller's that has been used before */
  char error[RECORDING_ERROR_MAX];
  struct snapshot s;
  if (!recording_open(&r, path, error)) {
    if (*error == 0) die("refused without a word");
    refused++;
    return 0;
  }
  uint32_t count = r.count;
  for (uint32_t i = 0; i < count && i < 40; i++) {
    uint32_t index = below(4) == 0 ? (uint32_t)below(count) : i;
    if (recording_read(&r, index, &s, error)) {
      show(&s);
      snapshot_free(&s);
      whole++;
    } else {
      broken++;
    }
  }
  recording_close(&r);
  return count;
}

static uint32_t checksum(const void *bytes, size_t size) {
  return (uint32_t)crc32_z(crc32_z(0, NULL, 0), bytes, size);
}

/* Right checksums again, so that what lies behind them is reached too. */
static void mend(uint8_t *file, size_t size) {
  struct recording_header *h = (struct recording_header *)file;
  if (size < sizeof *h) return;
  h->checksum = checksum(h, offsetof(struct recording_header, checksum));
  for (size_t at = sizeof *h; at + sizeof(struct recording_entry) <= size;) {
    struct recording_entry *e = (struct recording_entry *)(file + at);
    size_t rest = size - at - sizeof *e, length = e->length < rest ? e->length : rest;
    e->data_checksum = checksum(e + 1, length);
    e->checksum = checksum(e, offsetof(struct recording_entry, checksum));
    at += sizeof *e + (length + 7) / 8 * 8;
  }
}

static void flip(uint8_t *file, size_t size) {
  for (uint64_t n = 1 + below(8); n > 0; n--) {
    size_t at = below(4) == 0 ? below(sizeof(struct recording_header)) : below(size);
    if (below(2))
      file[at] ^= (uint8_t)(1 << below(8));
    else
      file[at] = (uint8_t)below(256);
  }
}

/* A field of some entry's head becomes another number, an ugly one mostly. */
static void lie(uint8_t *file, size_t size) {
  static const uint32_t ugly[] = {0, 1, 511, 512, 513, 0x7fffffff, 0x80000000, 0xffffffff, 1 << 20};
  size_t at = sizeof(struct recording_header);
  for (uint64_t skip = below(8); skip > 0 && at + sizeof(struct recording_entry) < size; skip--) {
    const struct recording_entry *e = (const struct recording_entry *)(file + at);
    size_t next = at + sizeof *e + ((size_t)e->length + 7) / 8 * 8;
    if (next + sizeof *e >= size) break;
    at = next;
  }
  uint32_t value = ugly[below(sizeof ugly / sizeof ugly[0])];
  if (at + sizeof(struct recording_entry) < size) memcpy(file + at + 4 * below(10), &value, 4);
}

/* The columns themselves lie: unpacked, changed, packed again. */
static void lie_inside(uint8_t *file, size_t size) {
  struct recording_entry *e = (struct recording_entry *)(file + sizeof(struct recording_header));
  if (size < sizeof(struct recording_header) + sizeof *e + e->length) return;
  uLongf raw = e->raw, length = e->length;
  uint8_t *columns = malloc(raw), *packed = malloc(compressBound(raw));
  if (columns == NULL || packed == NULL) die("no memory");
  if (uncompress(columns, &raw, (uint8_t *)(e + 1), e->length) == Z_OK) {
    for (uint64_t n = 1 + below(20); n > 0; n--) columns[below(raw)] = (uint8_t)below(256);
    length = compressBound(raw);
    /* Smaller than before in most cases; where it isn't this round is for nothing. */
    if (compress2(packed, &length, columns, raw, 9) == Z_OK && length <= e->length) {
      memcpy(e + 1, packed, length);
    }
  }
  free(columns);
  free(packed);
}

static void put(int fd, const uint8_t *bytes, size_t size) {
  if (ftruncate(fd, 0) != 0 || pwrite(fd, bytes, size, 0) != (ssize_t)size) die("can't write");
}

int main(int argc, char **argv) {
  char path[64];
  unsigned long rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
  int in = open(argc > 1 ? argv[1] : "", O_RDONLY), out = memfd_create("damaged", 0);
  if (in < 0 || out < 0 || rounds == 0) die("usage: damage RECORDING ROUNDS");
  size_t size = (size_t)lseek(in, 0, SEEK_END);
  uint8_t *good = malloc(size), *file = malloc(size);
  if (good == NULL || file == NULL || pread(in, good, size, 0) != (ssize_t)size) die("can't read");
  snprintf(path, sizeof path, "/proc/self/fd/%d", out);
  put(out, good, size);
  uint32_t all = read_all(path);
  if (all < 3 || broken > 0) die("the recording isn't good to begin with");
  /* Cut off: everything before the cut is still there, and nothing of what is behind. */
  size_t end = sizeof(struct recording_header);
  for (uint32_t i = 0; i < all; i++) {
    const struct recording_entry *e = (const struct recording_entry *)(good + end);
    size_t next = end + sizeof *e + ((size_t)e->length + 7) / 8 * 8;
    size_t cuts[] = {end + 1, end + sizeof *e, end + (next - end) / 2, next - 1};
    for (unsigned k = 0; k < 4; k++) {
      put(out, good, cuts[k]);
      if (read_all(path) != i) die("a recording that was cut off lost or gained a snapshot");
    }
    end = next;
  }
  for (unsigned long i = 0; i < rounds; i++) {
    size_t length = below(8) == 0 ? below(size) : size;
    memcpy(file, good, size);
    uint64_t how = below(4);
    if (how == 0) lie(file, size);
    if (how == 1) lie_inside(file, size);
    if (how >= 2) flip(file, size);
    if (how < 3) mend(file, length);
    put(out, file, length);
    read_all(path);
  }
  printf("%lu refused, %lu snapshots read, %lu broken\n", refused, whole, broken);
  free(good);
  free(file);
  return 0;
}
