/* Colours that tell kinds apart for the colour-blind too: Okabe and Ito's hues (blue, bluish green,
 * orange, yellow), and lightness for how much lives. Guests and hosts share a hue, as they share
 * memory. */
#include <math.h>

#include "tools/quire/picture.h"

const struct palette_page palette_pages[PALETTE_THEMES] = {
    [PALETTE_LIGHT] = {0xfcfbf8, 0x23262b, 0x6d7179, 0xfcfbf8},
    [PALETTE_DARK] = {0x101216, 0xe7e9ec, 0x8d939d, 0x101216},
};

struct ramp {
  uint32_t empty, full;
};

static const struct ramp ramps[PALETTE_THEMES][PICTURE_KINDS] =
    {
        [PALETTE_LIGHT] =
            {
                [PICTURE_UNUSED] = {0xf4f2ed, 0xf4f2ed},
                [PICTURE_DISCARDED] = {0xebe8e1, 0xebe8e1},
                [PICTURE_FREE] = {0xaeaaa2, 0xaeaaa2},
                [PICTURE_SLAB] = {0xcfe0f3, 0x0a3f86},
                [PICTURE_HOLLOW] = {0xe6edf5, 0xe6edf5},
                [PICTURE_HOST] = {0x9fdcc4, 0x00664d},
                [PICTURE_GUEST] = {0xd9f2e7, 0xd9f2e7},
                [PICTURE_FOLIO] = {0xe69f00, 0xe69f00},
                [PICTURE_GUARD] = {0x7b6b45, 0x7b6b45},
                [PICTURE_OWNED] = {0xe8d71e, 0xe8d71e},
                [PICTURE_META] = {0x4d4f57, 0x4d4f57},
                [PICTURE_POISON] = {0x111111, 0x111111},
                [PICTURE_RESERVED] = {0x8f8577, 0x8f8577},
                [PICTURE_UNSURE] = {0xd3b4d8, 0xd3b4d8},
            },
        [PALETTE_DARK] =
            {
                [PICTURE_UNUSED] = {0x171a1f, 0x171a1f},
                [PICTURE_DISCARDED] = {0x20242a, 0x20242a},
                [PICTURE_FREE] = {0x5f656f, 0x5f656f},
                [PICTURE_SLAB] = {0x213a5c, 0x8cc8ff},
                [PICTURE_HOLLOW] = {0x1c2632, 0x1c2632},
                [PICTURE_HOST] = {0x1d5a48, 0x4cf0b8},
                [PICTURE_GUEST] = {0x19332b, 0x19332b},
                [PICTURE_FOLIO] = {0xe9a21b, 0xe9a21b},
                [PICTURE_GUARD] = {0x7b6b45, 0x7b6b45},
                [PICTURE_OWNED] = {0xf0e442, 0xf0e442},
                [PICTURE_META] = {0xc6c8d0, 0xc6c8d0},
                [PICTURE_POISON] = {0xffffff, 0xffffff},
                [PICTURE_RESERVED] = {0x8f8577, 0x8f8577},
                [PICTURE_UNSURE] = {0x77567d, 0x77567d},
            },
};

static const uint32_t mark_colours[PALETTE_THEMES][PICTURE_MARKS] = {
    [PALETTE_LIGHT] = {0xd4006a, 0x6a3d9a, 0xffffff},
    [PALETTE_DARK] = {0xff5aa9, 0xc9a6ff, 0xffffff},
};

static uint32_t between(uint32_t a, uint32_t b, unsigned part, unsigned whole) {
  uint32_t out = 0;
  for (unsigned shift = 0; shift < 24; shift += 8) {
    unsigned from = a >> shift & 0xff, to = b >> shift & 0xff;
    out |= ((from * (whole - part) + to * part + whole / 2) / whole) << shift;
  }
  return out;
}

uint32_t palette_colour(enum palette_theme theme, unsigned kind, unsigned level) {
  const struct ramp *ramp = &ramps[theme][kind < PICTURE_KINDS ? kind : PICTURE_UNSURE];
  if (level >= PICTURE_LEVELS) level = PICTURE_LEVELS - 1;
  return between(ramp->empty, ramp->full, level, PICTURE_LEVELS - 1);
}

uint32_t palette_mark(enum palette_theme theme, unsigned index) {
  return mark_colours[theme][index < PICTURE_MARKS ? index : 0];
}

uint32_t palette_cell(enum palette_theme theme, struct picture_cell cell) {
  /* Isolated is for a moment, and everywhere during a pass: a sign only where there is room. */
  if (cell.marks & PICTURE_PINNED) return palette_mark(theme, 0);
  if (cell.marks & PICTURE_FROZEN) return palette_mark(theme, 1);
  return palette_colour(theme, cell.kind, cell.level);
}

/* ---- mixing: in light, not in code values, or what is mixed looks too dark ---- */

static double light(unsigned value) {
  static double table[256];
  static bool made;
  if (!made) {
    for (unsigned i = 0; i < 256; i++) table[i] = pow(i / 255.0, 2.2);
    made = true;
  }
  return table[value];
}

void palette_add(struct palette_mix *mix, uint32_t colour) {
  mix->red += light(colour >> 16 & 0xff);
  mix->green += light(colour >> 8 & 0xff);
  mix->blue += light(colour & 0xff);
  mix->n++;
}

static uint32_t value(double sum, unsigned n) {
  return (uint32_t)(pow(sum / n, 1 / 2.2) * 255 + 0.5);
}

uint32_t palette_mixed(const struct palette_mix *mix) {
  if (mix->n == 0) return 0;
  return value(mix->red, mix->n) << 16 | value(mix->green, mix->n) << 8 | value(mix->blue, mix->n);
}
