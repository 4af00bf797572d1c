/* A picture in character cells: what `quire map` prints and browses, and `quire top` shows.
 *
 * With colours a character cell is two pixels, one above the other (U+2580, upper half block);
 * without it is one pixel, a sign for what there is most of. A pixel is a square of frames, or
 * several hugepages, or part of a frame: `step` says which. */
#ifndef QUIRE_TOOLS_SCREEN_H
#define QUIRE_TOOLS_SCREEN_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "tools/quire/picture.h"

#define SCREEN_DEFAULT UINT32_MAX /* the terminal's own colour */

struct screen_cell {
  uint32_t glyph;  /* Unicode */
  uint32_t fg, bg; /* 0xRRGGBB or SCREEN_DEFAULT */
};

/* A part of a buffer. Drawing beyond it is cut off. */
struct screen {
  struct screen_cell *cells;
  unsigned stride; /* cells from one row to the next */
  unsigned width, height;
};

struct screen_style {
  enum palette_theme theme;
  bool colour;  /* else signs */
  bool unicode; /* else ASCII */
};

enum { SCREEN_STEP_MIN = -3, SCREEN_STEP_MAX = 20 };

/* Where one looks: pixels of 2^step x 2^step frames (-1: 2 x 2 pixels a frame; 5: a hugepage; more:
 * 2^(step - 5) hugepages), hugepages in so many columns, and the first pixel shown. */
struct screen_view {
  int step;
  unsigned gap; /* pixels between hugepages */
  unsigned columns;
  unsigned x, y;
};

void screen_clear(struct screen *screen);

/* Text at a place, cut at the edge. Returns where it ends. */
unsigned screen_text(struct screen *screen, unsigned x, unsigned y, uint32_t fg, const char *text);

/* Pixels that the screen has: of half the height of a character with colours. */
unsigned screen_pixel_rows(const struct screen *screen, const struct screen_style *style);

/* The finest step at which the whole picture fits. */
struct screen_view screen_fit(const struct picture *picture, const struct screen *screen,
                              const struct screen_style *style);
/* Another step, with gaps while there is room for them, in as many columns as fit. */
void screen_set_step(struct screen_view *view, int step, const struct screen *screen);
/* How large the picture is in pixels. */
void screen_extent(const struct picture *picture, const struct screen_view *view, unsigned *width,
                   unsigned *height);

void screen_draw(struct screen *screen, const struct picture *picture,
                 const struct screen_view *view, const struct screen_style *style);

/* The first frame behind a pixel of the screen; UINT32_MAX: none. And the other way round, where a
 * frame is in the picture. */
uint32_t screen_frame(const struct picture *picture, const struct screen_view *view, unsigned x,
                      unsigned y);
void screen_place(const struct screen_view *view, uint32_t frame, unsigned *x, unsigned *y);

/* Totals and what the colours mean, of what the picture holds. Returns the rows that took. */
unsigned screen_legend(struct screen *screen, const struct picture *picture,
                       const struct screen_style *style);

/* The whole picture with its title and legend, fitted: what `quire map` prints. Returns the rows
 * used. */
unsigned screen_page(struct screen *screen, const struct snapshot *snapshot,
                     const struct picture *picture, const struct screen_style *style);

#endif
