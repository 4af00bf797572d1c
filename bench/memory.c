/* See memory.h. All files are read through static buffers. */
#include "memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const char SHARED_FILE[] = "/memfd:quire";

static void fail(const char *what) {
  fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
  exit(3);
}

uint64_t now_ns(void) {
  struct timespec now;

  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void *memory_table(size_t bytes) {
  void *table =
      mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

  if (table == MAP_FAILED) fail("mmap");
  return table;
}

/* ---- lines of a file of /proc ---- */

struct lines {
  int fd;
  size_t begin, end;
  char text[1 << 16];
};

static void lines_open(struct lines *lines, const char *path) {
  lines->fd = open(path, O_RDONLY | O_CLOEXEC);
  if (lines->fd < 0) fail(path);
  lines->begin = lines->end = 0;
}

/* The next line, without its end; NULL after the last. The file is closed then. */
static char *lines_next(struct lines *lines) {
  for (;;) {
    char *line = lines->text + lines->begin;
    char *newline = memchr(line, '\n', lines->end - lines->begin);
    if (newline != NULL) {
      *newline = '\0';
      lines->begin = (size_t)(newline + 1 - lines->text);
      return line;
    }
    memmove(lines->text, line, lines->end - lines->begin);
    lines->end -= lines->begin;
    lines->begin = 0;
    ssize_t got = read(lines->fd, lines->text + lines->end, sizeof(lines->text) - lines->end);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("read from /proc");
    if (got == 0) {
      close(lines->fd);
      return NULL;
    }
    lines->end += (size_t)got;
  }
}

static bool field(const char *line, const char *name, size_t *bytes) {
  size_t length = strlen(name);

  if (strncmp(line, name, length) != 0 || line[length] != ':') return false;
  *bytes = strtoul(line + length + 1, NULL, 10) * 1024;
  return true;
}

/* ---- what quire's shared file holds ---- */

/* Bytes of the file behind a descriptor of `directory`, if it is quire's. */
static size_t held_by(int directory, const char *name) {
  char target[64];
  struct stat status;
  ssize_t length = readlinkat(directory, name, target, sizeof(target));

  if (length < (ssize_t)strlen(SHARED_FILE) ||
      strncmp(target, SHARED_FILE, strlen(SHARED_FILE)) != 0)
    return 0;
  return fstatat(directory, name, &status, 0) == 0 ? (size_t)status.st_blocks * 512 : 0;
}

/* Looks through one thread's descriptors: quire's own thread may have a table to itself. Threads
 * that share a table show the same file; its size is taken once, as there is one such file. */
static size_t shared_file_size_of(const char *path) {
  static char entries[1 << 14];
  size_t most = 0;
  int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

  if (directory < 0) return 0; /* the thread has ended */
  long got;
  while ((got = syscall(SYS_getdents64, directory, entries, sizeof(entries))) > 0) {
    for (long at = 0; at < got;) {
      const struct dirent64 *entry = (const struct dirent64 *)(entries + at);
      size_t size = held_by(directory, entry->d_name);
      if (size > most) most = size;
      at += entry->d_reclen;
    }
  }
  close(directory);
  return most;
}

static size_t shared_file_size(void) {
  static char entries[1 << 12];
  size_t most = 0;
  int tasks = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

  if (tasks < 0) fail("/proc/self/task");
  long got;
  while ((got = syscall(SYS_getdents64, tasks, entries, sizeof(entries))) > 0) {
    for (long at = 0; at < got;) {
      const struct dirent64 *entry = (const struct dirent64 *)(entries + at);
      char path[64];
      snprintf(path, sizeof(path), "/proc/self/task/%.20s/fd", entry->d_name);
      size_t size = entry->d_name[0] == '.' ? 0 : shared_file_size_of(path);
      if (size > most) most = size;
      at += entry->d_reclen;
    }
  }
  close(tasks);
  return most;
}

/* ---- the numbers ---- */

struct memory memory_now(void) {
  static struct lines lines;
  struct memory memory = {0};
  size_t shared = 0;
  bool known = false;

  lines_open(&lines, "/proc/self/smaps_rollup");
  for (char *line; (line = lines_next(&lines)) != NULL;) {
    known |= field(line, "Pss", &memory.pss);
    field(line, "Pss_Shmem", &shared);
  }
  if (!known) {
    fputs("bench: /proc/self/smaps_rollup has no Pss\n", stderr);
    exit(3);
  }
  /* These programs share no other memory, so all that Pss_Shmem counts is of this file. */
  size_t file = shared_file_size();
  memory.unmapped = file > shared ? file - shared : 0;
  return memory;
}

size_t memory_held(const struct memory *now, const struct memory *base) {
  size_t sum = now->pss + now->unmapped, before = base->pss + base->unmapped;

  return sum > before ? sum - before : 0;
}

size_t memory_mappings(void) {
  static struct lines lines;
  size_t count = 0;

  lines_open(&lines, "/proc/self/maps");
  while (lines_next(&lines) != NULL) count++;
  return count;
}

/* The largest mapping is quire's view of the whole file, which it copies by and no program uses. */
struct shared_file memory_shared_file(void) {
  static struct lines lines;
  struct shared_file file = {.held = shared_file_size()};
  size_t largest = 0, pmd_of_largest = 0, size = 0;
  bool ours = false;

  lines_open(&lines, "/proc/self/smaps");
  for (char *line; (line = lines_next(&lines)) != NULL;) {
    /* A mapping's first line begins with its address, in lower case; its fields do not. */
    if ((*line >= '0' && *line <= '9') || (*line >= 'a' && *line <= 'f')) {
      ours = strstr(line, SHARED_FILE) != NULL;
      file.mappings += ours;
    }
    size_t bytes;
    if (!ours) continue;
    if (field(line, "Size", &size) && size > largest) {
      largest = size;
      pmd_of_largest = 0;
    }
    if (!field(line, "ShmemPmdMapped", &bytes) && !field(line, "FilePmdMapped", &bytes)) continue;
    file.pmd += bytes;
    if (size == largest) pmd_of_largest += bytes;
  }
  file.pmd -= pmd_of_largest;
  return file;
}
