/* Symbols of programs and libraries, in a process's memory and in files. */
#ifndef QUIRE_TOOLS_ELF_H
#define QUIRE_TOOLS_ELF_H

#include "tools/quire/target.h"

/* The address of a dynamic symbol of what is mapped with its first page at `base`; 0 if there is no
 * such symbol, or no such thing. Needs no file, so neither containers nor deleted files matter. */
uint64_t elf_symbol_in_memory(struct target *target, uint64_t base, const char *name);

/* The value of a symbol in a file's symbol tables, and the address that its first segment asks for;
 * false when it has none. For what is linked statically. */
bool elf_symbol_in_file(int fd, const char *name, uint64_t *value, uint64_t *first);

/* What a file is, as far as preloading is concerned. */
enum elf_kind {
  ELF_NOT,     /* no ELF file */
  ELF_FOREIGN, /* of another architecture or word size */
  ELF_STATIC,  /* has no dynamic loader */
  ELF_DYNAMIC, /* a program or library that has one */
};
enum elf_kind elf_kind_of(int fd);

#endif
