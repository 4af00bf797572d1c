/* A target: memory that can be read by its addresses, with quire's header somewhere in it.
 *
 * Mostly that of a live process (process.h); tests and recordings give other memory, also corrupted
 * one. Whatever reads through this believes nothing: every number may be anything, and what is read
 * twice may differ. */
#ifndef QUIRE_TOOLS_TARGET_H
#define QUIRE_TOOLS_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct target_piece {
  uint64_t address;
  void *buffer;
  size_t size;
};

struct target {
  /* Reads all pieces, in this order: then true. False when any of them can't be read whole; buffers
   * hold anything then. */
  bool (*read)(struct target *target, const struct target_piece *pieces, unsigned npieces);
  uint64_t header; /* address of struct quire_peek */
};

static inline bool target_read(struct target *target, uint64_t address, void *buffer, size_t size) {
  struct target_piece piece = {address, buffer, size};
  return target->read(target, &piece, 1);
}

#endif
