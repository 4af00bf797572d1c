/* Symbols in memory are found as the dynamic loader finds them: program headers, the dynamic
 * section, its GNU hash table. Everything is bounded, since it may be anything. */
#include "tools/quire/elf.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
  HEADERS_MAX = 64,
  DYNAMIC_MAX = 512,
  CHAIN_MAX = 1 << 16,
  PAGE = 4096,
  PART_MAX = 256 << 20
};

#if defined(__x86_64__)
enum { MACHINE = EM_X86_64 };
#elif defined(__aarch64__)
enum { MACHINE = EM_AARCH64 };
#endif

static bool sound(const Elf64_Ehdr *header) {
  return memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 && header->e_ident[EI_CLASS] == ELFCLASS64 &&
         header->e_machine == MACHINE && header->e_phentsize == sizeof(Elf64_Phdr) &&
         header->e_phnum <= HEADERS_MAX;
}

/* ---- in memory ---- */

struct tables {
  uint64_t hash, symbols, names;
};

/* What is mapped at `base` is shifted by this; its dynamic section. */
static bool find_dynamic(struct target *t, uint64_t base, uint64_t *shift, uint64_t *dynamic) {
  Elf64_Ehdr header;
  Elf64_Phdr segments[HEADERS_MAX];
  bool loaded = false;
  if (!target_read(t, base, &header, sizeof header) || !sound(&header)) return false;
  if (!target_read(t, base + header.e_phoff, segments, header.e_phnum * sizeof segments[0]))
    return false;
  *dynamic = 0;
  for (unsigned i = 0; i < header.e_phnum; i++) {
    if (segments[i].p_type == PT_LOAD && !loaded) {
      *shift = base - (segments[i].p_vaddr & ~(uint64_t)(PAGE - 1));
      loaded = true;
    } else if (segments[i].p_type == PT_DYNAMIC) {
      *dynamic = segments[i].p_vaddr;
    }
  }
  *dynamic += *dynamic != 0 && loaded ? *shift : 0;
  return loaded && *dynamic != 0;
}

/* Some loaders add the shift to the addresses in there, some don't. */
static uint64_t address_of(uint64_t value, uint64_t base, uint64_t shift) {
  return value < base ? value + shift : value;
}

static bool find_tables(struct target *t, uint64_t base, uint64_t *shift, struct tables *out) {
  uint64_t dynamic;
  if (!find_dynamic(t, base, shift, &dynamic)) return false;
  memset(out, 0, sizeof *out);
  for (unsigned i = 0; i < DYNAMIC_MAX; i++) {
    Elf64_Dyn entry;
    if (!target_read(t, dynamic + i * sizeof entry, &entry, sizeof entry)) return false;
    uint64_t address = address_of(entry.d_un.d_ptr, base, *shift);
    if (entry.d_tag == DT_NULL) break;
    if (entry.d_tag == DT_GNU_HASH) out->hash = address;
    if (entry.d_tag == DT_SYMTAB) out->symbols = address;
    if (entry.d_tag == DT_STRTAB) out->names = address;
  }
  return out->hash != 0 && out->symbols != 0 && out->names != 0;
}

static uint32_t hash_of(const char *name) {
  uint32_t hash = 5381;
  for (; *name != 0; name++) hash = hash * 33 + (unsigned char)*name;
  return hash;
}

/* Is symbol number n the one? */
static uint64_t value_of(struct target *t, const struct tables *tables, uint64_t n,
                         const char *name) {
  Elf64_Sym symbol;
  char text[64];
  size_t length = strlen(name) + 1;
  if (length > sizeof text ||
      !target_read(t, tables->symbols + n * sizeof symbol, &symbol, sizeof symbol))
    return 0;
  if (symbol.st_shndx == SHN_UNDEF || symbol.st_value == 0) return 0;
  if (!target_read(t, tables->names + symbol.st_name, text, length)) return 0;
  return memcmp(text, name, length) == 0 ? symbol.st_value : 0;
}

uint64_t elf_symbol_in_memory(struct target *t, uint64_t base, const char *name) {
  struct tables tables;
  uint64_t shift;
  uint32_t head[4], at, hash = hash_of(name); /* buckets, first symbol, words of the filter, - */
  if (!find_tables(t, base, &shift, &tables)) return 0;
  if (!target_read(t, tables.hash, head, sizeof head) || head[0] == 0) return 0;
  uint64_t buckets = tables.hash + sizeof head + 8ull * head[2];
  uint64_t chains = buckets + 4ull * head[0];
  if (!target_read(t, buckets + 4ull * (hash % head[0]), &at, 4)) return 0;
  for (unsigned i = 0; i < CHAIN_MAX && at >= head[1]; i++, at++) {
    uint32_t link;
    if (!target_read(t, chains + 4ull * (at - head[1]), &link, 4)) return 0;
    uint64_t value = (link | 1) == (hash | 1) ? value_of(t, &tables, at, name) : 0;
    if (value != 0) return shift + value;
    if (link & 1) break;
  }
  return 0;
}

/* ---- in files ---- */

/* Read, not mapped: whoever owns the file may cut it short meanwhile. NULL when it isn't as long as
 * that, or longer than anything should be. To be freed. */
static void *load(int fd, uint64_t at, uint64_t length) {
  struct stat st;
  if (length == 0 || length > PART_MAX || at > INT64_MAX - length) return NULL;
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || at + length > (uint64_t)st.st_size)
    return NULL;
  char *bytes = malloc(length);
  uint64_t got = 0;
  while (bytes != NULL && got < length) {
    ssize_t n = pread(fd, bytes + got, length - got, (off_t)(at + got));
    if (n <= 0) break;
    got += (uint64_t)n;
  }
  if (got == length) return bytes;
  free(bytes);
  return NULL;
}

static bool load_header(int fd, Elf64_Ehdr *out) {
  Elf64_Ehdr *header = load(fd, 0, sizeof *header);
  if (header == NULL) return false;
  *out = *header;
  free(header);
  return sound(out);
}

/* Symbols and their names, as two sections say. */
static bool find_in_sections(int fd, const Elf64_Shdr *s, const Elf64_Shdr *strings,
                             const char *name, uint64_t *value) {
  Elf64_Sym *symbols = load(fd, s->sh_offset, s->sh_size);
  char *names = load(fd, strings->sh_offset, strings->sh_size);
  size_t length = strlen(name) + 1;
  bool found = false;
  for (uint64_t i = 0;
       symbols != NULL && names != NULL && !found && i < s->sh_size / sizeof *symbols; i++) {
    uint64_t at = symbols[i].st_name;
    if (at > strings->sh_size || strings->sh_size - at < length) continue;
    found = symbols[i].st_value != 0 && memcmp(names + at, name, length) == 0;
    if (found) *value = symbols[i].st_value;
  }
  free(symbols);
  free(names);
  return found;
}

static bool first_address(int fd, const Elf64_Ehdr *header, uint64_t *first) {
  Elf64_Phdr *segments = load(fd, header->e_phoff, header->e_phnum * sizeof *segments);
  bool found = false;
  for (unsigned i = 0; segments != NULL && i < header->e_phnum && !found; i++) {
    found = segments[i].p_type == PT_LOAD;
    if (found) *first = segments[i].p_vaddr & ~(uint64_t)(PAGE - 1);
  }
  free(segments);
  return found;
}

bool elf_symbol_in_file(int fd, const char *name, uint64_t *value, uint64_t *first) {
  Elf64_Ehdr header;
  bool found = false;
  if (!load_header(fd, &header) || header.e_shentsize != sizeof(Elf64_Shdr) ||
      !first_address(fd, &header, first))
    return false;
  Elf64_Shdr *sections = load(fd, header.e_shoff, header.e_shnum * sizeof *sections);
  for (unsigned i = 0; sections != NULL && i < header.e_shnum && !found; i++) {
    const Elf64_Shdr *s = &sections[i];
    if ((s->sh_type == SHT_SYMTAB || s->sh_type == SHT_DYNSYM) && s->sh_link < header.e_shnum)
      found = find_in_sections(fd, s, &sections[s->sh_link], name, value);
  }
  free(sections);
  return found;
}

enum elf_kind elf_kind_of(int fd) {
  Elf64_Ehdr header;
  char *ident = load(fd, 0, EI_NIDENT);
  bool elf = ident != NULL && memcmp(ident, ELFMAG, SELFMAG) == 0;
  free(ident);
  if (!elf) return ELF_NOT;
  if (!load_header(fd, &header)) return ELF_FOREIGN;
  Elf64_Phdr *segments = load(fd, header.e_phoff, header.e_phnum * sizeof *segments);
  enum elf_kind kind = ELF_STATIC;
  for (unsigned i = 0; segments != NULL && i < header.e_phnum; i++)
    if (segments[i].p_type == PT_INTERP) kind = ELF_DYNAMIC;
  free(segments);
  return kind;
}
