/* Reads another process's heap, as struct quire_peek in quire.h says that one can.
 *
 *   reader LIBRARY TARGET
 *
 * Starts TARGET on LIBRARY, finds quire_peek by the library's symbol table and /proc/PID/maps,
 * peeks while the target's threads allocate, then stops it and counts its whole heap. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "quire.h"

enum { ROUNDS = 5000, FRAMES_A_ROUND = 16, TRIES = 100, DESCRIPTOR = 256 };
enum { FREE_TYPE = 1, SLAB_TYPE = 2, FOLIO_TYPE = 3, LAST_TYPE = 7 };

static struct target {
  pid_t pid;
  FILE *answers;
  int orders;
} target;

static struct quire_peek peek;
static uint32_t class_sizes[256];
static int status;

static void pass(const char *name) { printf("PASS %s\n", name); }

static void fail(const char *name, const char *format, ...) {
  va_list args;
  va_start(args, format);
  printf("FAIL %s: ", name);
  vprintf(format, args);
  putchar('\n');
  va_end(args);
  status = 1;
}

/* ---- the target ---- */

static void start(const char *library, const char *program) {
  int in[2], out[2];
  if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) abort();
  target.pid = fork();
  if (target.pid == 0) {
    dup2(in[0], 0);
    dup2(out[1], 1);
    setenv("LD_PRELOAD", library, 1);
    setenv("QUIRE_CONF", "background:off", 1); /* nothing may change once it's quiet */
    execl(program, program, (char *)NULL);
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  target.orders = in[1];
  target.answers = fdopen(out[0], "r");
}

static const char *answer(void) {
  static char line[256];
  return fgets(line, sizeof line, target.answers) != NULL ? line : "";
}

static const char *order(const char *line) {
  return write(target.orders, line, strlen(line)) == (ssize_t)strlen(line) ? answer() : "";
}

/* Also when a check gave up half-way: a stopped target must not stay behind. */
static void end(void) {
  kill(target.pid, SIGKILL);
  waitpid(target.pid, NULL, 0);
}

/* Stops it and waits until /proc says so of the whole process. */
static bool stop(void) {
  int state;
  if (kill(target.pid, SIGSTOP) != 0) return false;
  return waitpid(target.pid, &state, WUNTRACED) == target.pid && WIFSTOPPED(state);
}

static bool read_at(uint64_t from, void *to, size_t length) {
  struct iovec local = {to, length}, remote = {(void *)(uintptr_t)from, length};
  return process_vm_readv(target.pid, &local, 1, &remote, 1, 0) == (ssize_t)length;
}

/* ---- finding quire_peek ---- */

/* Its address in the file, by the dynamic symbols; 0 if there is none. */
static uint64_t symbol_in(const char *library, const char *name) {
  uint64_t value = 0;
  struct stat st;
  int fd = open(library, O_RDONLY);
  if (fd < 0 || fstat(fd, &st) != 0) return 0;
  char *file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  close(fd);
  if (file == MAP_FAILED) return 0;
  Elf64_Ehdr *header = (Elf64_Ehdr *)file;
  Elf64_Shdr *sections = (Elf64_Shdr *)(file + header->e_shoff);
  for (int i = 0; i < header->e_shnum; i++) {
    if (sections[i].sh_type != SHT_DYNSYM) continue;
    Elf64_Sym *symbols = (Elf64_Sym *)(file + sections[i].sh_offset);
    const char *names = file + sections[sections[i].sh_link].sh_offset;
    for (size_t s = 0; s < sections[i].sh_size / sizeof *symbols; s++)
      if (strcmp(names + symbols[s].st_name, name) == 0) value = symbols[s].st_value;
  }
  munmap(file, (size_t)st.st_size);
  return value;
}

/* Where the beginning of the library's file is mapped in the target. */
static uint64_t base_of(const char *library) {
  char path[64], line[4400], mapped[4096], *real = realpath(library, NULL);
  unsigned long long from, offset;
  uint64_t base = 0;
  snprintf(path, sizeof path, "/proc/%d/maps", target.pid);
  FILE *maps = fopen(path, "r");
  while (real != NULL && maps != NULL && fgets(line, sizeof line, maps) != NULL)
    if (sscanf(line, "%llx-%*x %*s %llx %*s %*s %4095[^\n]", &from, &offset, mapped) == 3 &&
        offset == 0 && strcmp(mapped, real) == 0 && base == 0)
      base = from;
  if (maps != NULL) fclose(maps);
  free(real);
  return base;
}

static bool find(const char *library) {
  static const char name[] = "peek_header";
  uint64_t value = symbol_in(library, "quire_peek"), base = base_of(library);
  if (value == 0 || base == 0) {
    fail(name, "the symbol or the library was not found in the target");
    return false;
  }
  if (!read_at(base + value, &peek, sizeof peek)) {
    if (errno == EPERM || errno == ENOSYS) {
      printf("SKIP %s: process_vm_readv: %s (ptrace_scope, seccomp)\n", name, strerror(errno));
      return false;
    }
    fail(name, "can't read the header: %s", strerror(errno));
    return false;
  }
  if (peek.magic != QUIRE_PEEK_MAGIC || peek.version != QUIRE_PEEK_VERSION ||
      peek.size != sizeof peek) {
    fail(name, "magic %llx version %u size %u", (unsigned long long)peek.magic, peek.version,
         peek.size);
    return false;
  }
  for (uint32_t c = 0; c < peek.nclasses && c < 256; c++)
    if (!read_at(peek.classes_address + (uint64_t)c * peek.class_stride, &class_sizes[c], 4))
      fail(name, "can't read class %u", c);
  pass(name);
  return true;
}

/* ---- one frame, by the protocol ---- */

enum verdict { CHANGED, NOBODYS, HOLDS, WRONG };

struct owner {
  uint32_t first, nframes, size_class, nfree, nslots;
  uint64_t bitmap[16];
};

static uint64_t field(const char *descriptor, uint32_t offset, size_t size) {
  uint64_t value = 0;
  memcpy(&value, descriptor + offset, size);
  return value;
}

static void decode(bool slab, const char *d, struct owner *out) {
  memset(out, 0, sizeof *out);
  out->first = (uint32_t)field(d, slab ? peek.slab_pfn : peek.folio_pfn, 4);
  out->nframes =
      slab ? (uint32_t)field(d, peek.slab_nframes, 2) : (uint32_t)field(d, peek.folio_nframes, 4);
  out->size_class = (uint32_t)field(d, slab ? peek.slab_class : peek.folio_class, 1);
  if (!slab) return;
  out->nfree = (uint32_t)field(d, peek.slab_nfree, 2);
  out->nslots = (uint32_t)field(d, peek.slab_nslots, 2);
  memcpy(out->bitmap, d + peek.slab_free,
         (out->nslots + 63) / 64 <= 16 ? (out->nslots + 63) / 64 * 8 : 0);
}

static bool sound(uint64_t word, uint32_t frame, const struct owner *o) {
  if (frame - o->first >= o->nframes || o->size_class != (word >> 8 & 0xff)) return false;
  if ((word & 0xf) == FOLIO_TYPE) return true;
  return o->size_class < peek.nclasses && o->nslots > 0 && o->nfree <= o->nslots &&
         (uint64_t)o->nslots * class_sizes[o->size_class] <= (uint64_t)o->nframes * peek.frame_size;
}

/* Word, descriptor and word again in one call, which reads them in this order. The words read must
 * be the one whose owner was followed. */
static enum verdict look(uint32_t frame, struct owner *out) {
  uint64_t at = peek.memmap + (uint64_t)frame * 8, word, before, after;
  char descriptor[DESCRIPTOR];
  if (!read_at(at, &word, 8) || (word & 0xf) > LAST_TYPE) return WRONG;
  if ((word & 0xf) != SLAB_TYPE && (word & 0xf) != FOLIO_TYPE) return NOBODYS;
  struct iovec local[3] = {{&before, 8}, {descriptor, 64}, {&after, 8}};
  struct iovec remote[3] = {{(void *)at, 8}, {(void *)(word >> 16), 64}, {(void *)at, 8}};
  if ((word & 0xf) == SLAB_TYPE) {
    /* With its bitmap. The number of slots is believed only after the second look at the word, like
     * all else; a slab's descriptor holds a slab's numbers at any time, so the length is never
     * absurd. */
    uint16_t nslots = 0;
    if (!read_at((word >> 16) + peek.slab_nslots, &nslots, 2) || nslots > 1024) return WRONG;
    local[1].iov_len = remote[1].iov_len = peek.slab_free + (nslots + 63u) / 64 * 8;
  }
  memset(descriptor, 0, sizeof descriptor);
  ssize_t want = (ssize_t)(16 + local[1].iov_len);
  if (process_vm_readv(target.pid, local, 3, remote, 3, 0) != want) return WRONG;
  if (before != word || after != word) return CHANGED;
  decode((word & 0xf) == SLAB_TYPE, descriptor, out);
  return sound(word, frame, out) ? HOLDS : WRONG;
}

struct counts {
  unsigned long looks, held, nobodys, again, lost, wrong, moved;
};

/* What doesn't hold is looked at again: a folio that grows in place is seen between its two
 * changes. */
static void look_until_sure(uint32_t frame, struct counts *n) {
  struct owner owner;
  enum verdict v = CHANGED;
  n->looks++;
  for (int i = 0; i < TRIES; i++) {
    v = look(frame, &owner);
    if (v == HOLDS || v == NOBODYS) break;
    n->again++;
  }
  n->held += v == HOLDS;
  n->nobodys += v == NOBODYS;
  n->lost += v == CHANGED;
  n->wrong += v == WRONG;
}

static uint64_t *read_memmap(uint64_t *nframes) {
  uint32_t opened = 0;
  if (!read_at(peek.opened_address, &opened, 4)) return NULL;
  *nframes = (uint64_t)opened * peek.frames_per_hugepage;
  uint64_t *words = malloc(*nframes * 8);
  if (words != NULL && read_at(peek.memmap, words, *nframes * 8)) return words;
  free(words);
  return NULL;
}

static void peek_live(void) {
  static const char name[] = "peek_live";
  struct counts n = {0};
  uint64_t *last = NULL, last_frames = 0, bad_types = 0;
  uint32_t random = 1;
  for (int round = 0; round < ROUNDS; round++) {
    uint64_t nframes, *words = read_memmap(&nframes);
    if (words == NULL) {
      fail(name, "can't read the memmap: %s", strerror(errno));
      break;
    }
    for (uint64_t i = 0; i < nframes; i++) bad_types += (words[i] & 0xf) > LAST_TYPE;
    n.moved += last != NULL && (nframes != last_frames || memcmp(words, last, nframes * 8) != 0);
    for (int i = 0; i < FRAMES_A_ROUND && nframes > 0; i++) {
      random = random * 1664525 + 1013904223;
      look_until_sure((uint32_t)((random >> 4) % nframes), &n);
    }
    free(last);
    last = words;
    last_frames = nframes;
  }
  free(last);
  printf("# %lu looks: %lu found their owner, %lu free, %lu looked at again, %lu of %d memmaps "
         "changed\n",
         n.looks, n.held, n.nobodys, n.again, n.moved, ROUNDS);
  if (bad_types != 0)
    fail(name, "%llu words of no type", (unsigned long long)bad_types);
  else if (n.wrong != 0 || n.lost != 0)
    fail(name, "%lu frames whose owner doesn't hold them, %lu never at rest", n.wrong, n.lost);
  else if (n.held < n.looks / 10 || n.moved < ROUNDS / 100)
    fail(name, "the target was not allocating");
  else
    pass(name);
}

/* ---- the whole heap of a stopped target ---- */

struct totals {
  unsigned long long opened, used, dirty, slabs, folios,
      slab_free; /* dirty: resident and not used */
  unsigned long long wrong;
};

static void count_slab(const struct owner *o, struct totals *t) {
  unsigned nfree = 0;
  for (unsigned w = 0; w < 16; w++) nfree += (unsigned)__builtin_popcountll(o->bitmap[w]);
  t->wrong += nfree != o->nfree;
  uint64_t taken = (uint64_t)(o->nslots - o->nfree) * class_sizes[o->size_class];
  t->slabs++;
  t->slab_free += (uint64_t)o->nframes * peek.frame_size - taken;
}

static void count_bitmaps(struct totals *t, uint64_t *used_bits) {
  for (uint64_t h = 0; h < t->opened / peek.frames_per_hugepage; h++) {
    uint64_t used[8], resident[8], zero[8], at = peek.hugepages + h * peek.hugepage_stride;
    if (!read_at(at + peek.hugepage_used, used, 64) ||
        !read_at(at + peek.hugepage_resident, resident, 64) ||
        !read_at(at + peek.hugepage_zero, zero, 64))
      t->wrong++;
    for (int w = 0; w < 8; w++) {
      *used_bits += (unsigned)__builtin_popcountll(used[w]);
      t->dirty += (unsigned)__builtin_popcountll(resident[w] & ~used[w]);
      t->wrong += (used[w] & zero[w]) != 0;
    }
  }
}

static void peek_stopped(void) {
  static const char name[] = "peek_stopped";
  struct totals t = {0}, said = {0};
  unsigned long long steps = 0, bits = 0;
  uint64_t nframes, used_bits = 0, *words;
  if (sscanf(order("quiet\n"), "numbers: %llu %llu %llu %llu %llu %llu %llu", &steps, &said.opened,
             &said.used, &said.dirty, &said.slabs, &said.folios, &said.slab_free) != 7) {
    fail(name, "the target gave no numbers");
    return;
  }
  if (!stop() || (words = read_memmap(&nframes)) == NULL) {
    fail(name, "the target can't be stopped or read: %s", strerror(errno));
    return;
  }
  t.opened = nframes;
  for (uint64_t i = 0; i < nframes; i++) {
    struct owner owner;
    unsigned type = words[i] & 0xf;
    if (type != SLAB_TYPE && type != FOLIO_TYPE) continue;
    t.used++;
    /* Nothing moves: one look must do, and each frame of a run must name its owner. */
    if (look((uint32_t)i, &owner) != HOLDS)
      t.wrong++;
    else if (owner.first == i && type == SLAB_TYPE)
      count_slab(&owner, &t);
    else if (owner.first == i)
      t.folios++;
  }
  free(words);
  count_bitmaps(&t, &used_bits);
  bits = used_bits;
  printf("# after %llu steps: %llu frames in %llu slabs and %llu folios\n", steps, t.used, t.slabs,
         t.folios);
  if (t.wrong != 0)
    fail(name, "%llu frames, slabs or bitmaps are inconsistent", t.wrong);
  else if (t.opened != said.opened || t.used != said.used || bits != said.used ||
           t.dirty != said.dirty || t.slabs != said.slabs || t.folios != said.folios ||
           t.slab_free != said.slab_free)
    fail(name,
         "counted opened %llu used %llu (bits %llu) dirty %llu slabs %llu folios %llu free %llu; "
         "the "
         "target says %llu %llu %llu %llu %llu %llu",
         t.opened, t.used, bits, t.dirty, t.slabs, t.folios, t.slab_free, said.opened, said.used,
         said.dirty, said.slabs, said.folios, said.slab_free);
  else if (steps == 0)
    fail(name, "the target did nothing");
  else
    pass(name);
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: reader LIBRARY TARGET\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  setvbuf(stdout, NULL, _IOLBF, 0);
  start(argv[1], argv[2]);
  const char *line = answer();
  if (strcmp(line, "started\n") != 0)
    fail("peek_header", "the target says \"%s\"", line);
  else if (find(argv[1])) {
    peek_live();
    peek_stopped();
  }
  end();
  return status;
}
