/*
 * Preloaded after quire, into a program that is idle when it is asked: at SIGUSR2 it writes down
 * which slots of the program's slabs are taken, for `matching -b`.
 *
 *   QUIRE_BITMAPS=file LD_PRELOAD="libquire.so bitmaps.so" program
 *
 * The file: for each slab a `struct slab_bitmap` and its words. What waits in a thread's cache
 * counts as taken. The file gets its name when it is whole.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bitmaps.h"
#include "quire.h"

static char path[4096], unfinished[4100];

static int write_slab(const struct quire_walk_item *item, void *arg) {
  int fd = *(int *)arg;
  uint64_t words[BITMAP_WORDS_MOST] = {0};
  struct slab_bitmap head = {(uint32_t)item->object_size, (uint32_t)item->slots,
                             (uint32_t)item->frames};
  size_t nwords = (item->slots + 63) / 64;

  if (item->type != QUIRE_WALK_SLAB || nwords > BITMAP_WORDS_MOST) return 0;
  for (size_t i = 0; i < item->slots; i++) {
    struct quire_description d;
    quire_describe((const char *)item->start + i * item->object_size, &d);
    if (d.kind == QUIRE_OBJECT && d.allocated) words[i / 64] |= 1ull << i % 64;
  }
  return write(fd, &head, sizeof(head)) != (ssize_t)sizeof(head) ||
         write(fd, words, nwords * 8) != (ssize_t)(nwords * 8);
}

static void write_all(int signal) {
  (void)signal;
  int fd = open(unfinished, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return;
  int failed = quire_walk(write_slab, &fd);
  if (close(fd) == 0 && !failed) (void)rename(unfinished, path);
}

__attribute__((constructor)) static void begin(void) {
  const char *name = getenv("QUIRE_BITMAPS");
  if (name == NULL || strlen(name) >= sizeof(path)) return;
  strcpy(path, name);
  snprintf(unfinished, sizeof(unfinished), "%s.new", path);
  signal(SIGUSR2, write_all);
}
