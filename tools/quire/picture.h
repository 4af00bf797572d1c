/* A picture: what is to be seen of each frame of a snapshot, and how many there are of each kind.
 *
 * Ink is memory: kinds that hold none of their own (unused, discarded, hollow, guest) are near the
 * paper's colour, and how dark the others are says how much of them lives. All that draws
 * (terminal, images) draws this; the page does the same by itself from the recording it carries,
 * with this palette. */
#ifndef QUIRE_TOOLS_PICTURE_H
#define QUIRE_TOOLS_PICTURE_H

#include <jansson.h>

#include "tools/quire/snapshot.h"

enum picture_kind {
  PICTURE_UNUSED,    /* never used */
  PICTURE_DISCARDED, /* free, its memory given back */
  PICTURE_FREE,      /* free, with its memory */
  PICTURE_SLAB,
  PICTURE_HOLLOW, /* in a slab, nothing lives in it, its memory given back */
  PICTURE_HOST,   /* in a slab, and other frames are mapped onto its memory */
  PICTURE_GUEST,  /* in a slab, mapped onto another frame's memory */
  PICTURE_FOLIO,
  PICTURE_GUARD, /* behind a folio */
  PICTURE_OWNED,
  PICTURE_META,
  PICTURE_POISON,
  PICTURE_RESERVED,
  PICTURE_UNSURE, /* changed hands each time it was looked at */
  PICTURE_KINDS,
};

enum picture_mark {
  PICTURE_PINNED = 1 << 0,
  PICTURE_FROZEN = 1 << 1,
  PICTURE_ISOLATED = 1 << 2,
  PICTURE_MARKS = 3, /* how many */
};

/* How much of a frame lives: 0 nothing, LEVELS - 1 all of it. */
enum { PICTURE_LEVELS = 8, HUGEPAGE_CELLS = 512, HUGEPAGE_COLUMNS = 32, HUGEPAGE_ROWS = 16 };

struct picture_cell {
  uint8_t kind, level, marks, unused_byte;
};

struct picture {
  uint32_t nhugepages; /* to be drawn: unused ones at the end are left out */
  uint32_t ncells;
  struct picture_cell *cells;
  uint64_t kinds[PICTURE_KINDS]; /* frames of each, of all of the snapshot */
  uint64_t marks[PICTURE_MARKS]; /* frames with mark 1 << i */
  uint64_t frames, held;         /* all; with memory of their own */
  uint64_t live;                 /* bytes */
  uint64_t hugepages;            /* in which a frame is used */
};

/* False without memory. */
bool picture_make(const struct snapshot *snapshot, struct picture *out);
void picture_free(struct picture *picture);

struct picture_cell picture_cell(const struct snapshot_frame *frame);

const char *picture_kind_name(unsigned kind); /* "slab": for programs */
const char *picture_kind_text(unsigned kind); /* "slab, by how much lives": for people */
const char *picture_mark_name(unsigned index);
unsigned picture_level(uint8_t fill);

/* Names as they may be shown anywhere: no control characters (a recording's could be a terminal's
 * commands), and nothing that isn't UTF-8. */
void picture_clean_names(struct snapshot_process *process);

/* What one frame is, in a line: "frame 71 0x7f..: slab of 64 B, ...". `out` is a string after. */
void picture_describe(const struct snapshot *snapshot, uint32_t frame, char *out, size_t size);

/* Counts as JSON; NULL without memory. */
json_t *picture_json(const struct snapshot *snapshot, const struct picture *picture);

/* ---- colours: 0xRRGGBB ---- */

enum palette_theme { PALETTE_LIGHT, PALETTE_DARK, PALETTE_THEMES };

struct palette_page {
  uint32_t paper, ink, faint, gap; /* background, text, secondary text, between hugepages */
};

extern const struct palette_page palette_pages[PALETTE_THEMES];

uint32_t palette_colour(enum palette_theme theme, unsigned kind, unsigned level);
uint32_t palette_mark(enum palette_theme theme, unsigned index);

/* What a cell looks like where it is too small for signs: a mark's colour, if it has one. */
uint32_t palette_cell(enum palette_theme theme, struct picture_cell cell);

/* The colour that n colours look like from afar. */
struct palette_mix {
  double red, green, blue;
  unsigned n;
};
void palette_add(struct palette_mix *mix, uint32_t colour);
uint32_t palette_mixed(const struct palette_mix *mix);

#endif
