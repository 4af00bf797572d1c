#include "tools/quire/screen.h"

#include <string.h>
#include <time.h>

#include "tools/quire/cli.h"

enum { UPPER_HALF = 0x2580, HUGEPAGE_STEP = 5, GAP_STEP_MAX = 2, LEGEND_ROWS_MAX = 8 };

/* ---- text ---- */

void screen_clear(struct screen *s) {
  for (unsigned y = 0; y < s->height; y++)
    for (unsigned x = 0; x < s->width; x++)
      s->cells[(size_t)y * s->stride + x] =
          (struct screen_cell){' ', SCREEN_DEFAULT, SCREEN_DEFAULT};
}

static void put(struct screen *s, unsigned x, unsigned y, struct screen_cell cell) {
  if (x < s->width && y < s->height) s->cells[(size_t)y * s->stride + x] = cell;
}

unsigned screen_text(struct screen *s, unsigned x, unsigned y, uint32_t fg, const char *text) {
  for (; *text != 0; text++) {
    unsigned char c = (unsigned char)*text;
    if ((c & 0xc0) == 0x80) continue; /* of a character that is a question mark already */
    put(s, x++, y, (struct screen_cell){c < 0x80 ? c : '?', fg, SCREEN_DEFAULT});
  }
  return x;
}

/* ---- where what is ---- */

/* Pixels of one hugepage with the gap behind it, at a step below HUGEPAGE_STEP. */
struct tile {
  unsigned width, height, gap;
};

static struct tile tile_of(const struct screen_view *view) {
  unsigned gap = view->gap;
  if (view->step >= HUGEPAGE_STEP) return (struct tile){1, 1, 0};
  if (view->step < 0)
    return (struct tile){(HUGEPAGE_COLUMNS << -view->step) + gap,
                         (HUGEPAGE_ROWS << -view->step) + gap, gap};
  unsigned height = HUGEPAGE_ROWS >> view->step;
  return (struct tile){(HUGEPAGE_COLUMNS >> view->step) + gap, (height == 0 ? 1 : height) + gap,
                       gap};
}

/* Hugepages behind one tile. */
static uint32_t hugepages_of(int step) {
  return step > HUGEPAGE_STEP ? (uint32_t)1 << (step - HUGEPAGE_STEP) : 1;
}

unsigned screen_pixel_rows(const struct screen *s, const struct screen_style *style) {
  return style->colour ? s->height * 2 : s->height;
}

static void set_step(struct screen_view *view, int step, unsigned gap, const struct screen *s) {
  if (step < SCREEN_STEP_MIN) step = SCREEN_STEP_MIN;
  if (step > SCREEN_STEP_MAX) step = SCREEN_STEP_MAX;
  view->step = step;
  view->gap = step <= GAP_STEP_MAX ? gap : 0;
  struct tile tile = tile_of(view);
  view->columns = (s->width + tile.gap) / tile.width;
  if (view->columns == 0) view->columns = 1;
}

void screen_set_step(struct screen_view *view, int step, const struct screen *s) {
  set_step(view, step, 1, s);
}

void screen_extent(const struct picture *p, const struct screen_view *view, unsigned *width,
                   unsigned *height) {
  struct tile tile = tile_of(view);
  uint32_t each = hugepages_of(view->step), tiles = (p->nhugepages + each - 1) / each;
  uint32_t rows = (tiles + view->columns - 1) / view->columns;
  *width = (tiles < view->columns ? tiles : view->columns) * tile.width - tile.gap;
  *height = rows == 0 ? 0 : rows * tile.height - tile.gap;
}

struct screen_view screen_fit(const struct picture *p, const struct screen *s,
                              const struct screen_style *style) {
  struct screen_view view = {0};
  unsigned width, height;
  for (int step = 0; step <= SCREEN_STEP_MAX; step++)
    for (unsigned gap = 2; gap-- > 0;) {
      set_step(&view, step, gap, s);
      screen_extent(p, &view, &width, &height);
      if (width <= s->width && height <= screen_pixel_rows(s, style)) return view;
    }
  return view;
}

/* A square of frames in one hugepage, or whole hugepages. */
struct area {
  uint32_t hugepage, nhugepages; /* nhugepages 0: nothing is there */
  unsigned x, y, size_x, size_y; /* frames of the hugepage */
};

static struct area area_at(const struct picture *p, const struct screen_view *view, unsigned x,
                           unsigned y) {
  struct tile tile = tile_of(view);
  struct area a = {0};
  uint32_t each = hugepages_of(view->step);
  uint64_t column = x / tile.width, row = y / tile.height;
  unsigned in_x = x % tile.width, in_y = y % tile.height;
  uint64_t hugepage = (row * view->columns + column) * each;
  if (column >= view->columns || hugepage >= p->nhugepages || in_x >= tile.width - tile.gap ||
      in_y >= tile.height - tile.gap)
    return a;
  a.hugepage = (uint32_t)hugepage;
  a.nhugepages = p->nhugepages - a.hugepage < each ? p->nhugepages - a.hugepage : each;
  if (view->step >= HUGEPAGE_STEP)
    return (struct area){a.hugepage, a.nhugepages, 0, 0, HUGEPAGE_COLUMNS, HUGEPAGE_ROWS};
  if (view->step < 0)
    return (struct area){a.hugepage, 1, in_x >> -view->step, in_y >> -view->step, 1, 1};
  a.x = in_x << view->step;
  a.y = in_y << view->step;
  a.size_x = 1u << view->step;
  a.size_y = a.size_x < HUGEPAGE_ROWS ? a.size_x : HUGEPAGE_ROWS;
  return a;
}

uint32_t screen_frame(const struct picture *p, const struct screen_view *view, unsigned x,
                      unsigned y) {
  struct area a = area_at(p, view, x, y);
  if (a.nhugepages == 0) return UINT32_MAX;
  return a.hugepage * HUGEPAGE_CELLS + a.y * HUGEPAGE_COLUMNS + a.x;
}

void screen_place(const struct screen_view *view, uint32_t frame, unsigned *x, unsigned *y) {
  struct tile tile = tile_of(view);
  uint32_t index = frame / HUGEPAGE_CELLS / hugepages_of(view->step), in = frame % HUGEPAGE_CELLS;
  *x = index % view->columns * tile.width;
  *y = index / view->columns * tile.height;
  if (view->step >= HUGEPAGE_STEP) return;
  unsigned in_x = in % HUGEPAGE_COLUMNS, in_y = in / HUGEPAGE_COLUMNS;
  *x += view->step < 0 ? in_x << -view->step : in_x >> view->step;
  *y += view->step < 0 ? in_y << -view->step : in_y >> view->step;
}

/* ---- pixels ---- */

typedef void (*visitor)(struct picture_cell cell, void *arg);

static void visit(const struct picture *p, const struct area *a, visitor each, void *arg) {
  for (uint32_t h = a->hugepage; h < a->hugepage + a->nhugepages; h++)
    for (unsigned y = a->y; y < a->y + a->size_y; y++)
      for (unsigned x = a->x; x < a->x + a->size_x; x++)
        each(p->cells[(size_t)h * HUGEPAGE_CELLS + y * HUGEPAGE_COLUMNS + x], arg);
}

struct mixing {
  struct palette_mix mix;
  enum palette_theme theme;
};

static void mix_cell(struct picture_cell cell, void *arg) {
  struct mixing *m = arg;
  palette_add(&m->mix, palette_cell(m->theme, cell));
}

static uint32_t pixel(const struct picture *p, const struct screen_view *view,
                      enum palette_theme theme, unsigned x, unsigned y) {
  struct area a = area_at(p, view, view->x + x, view->y + y);
  struct mixing m = {.theme = theme};
  if (a.nhugepages == 0) return SCREEN_DEFAULT;
  visit(p, &a, mix_cell, &m);
  return palette_mixed(&m.mix);
}

/* ---- signs ---- */

struct counting {
  unsigned kinds[PICTURE_KINDS], levels[PICTURE_KINDS], pinned;
};

static void count_cell(struct picture_cell cell, void *arg) {
  struct counting *c = arg;
  c->kinds[cell.kind]++;
  c->levels[cell.kind] += cell.level;
  c->pinned += cell.marks & PICTURE_PINNED;
}

static uint32_t sign_of(unsigned kind, unsigned level, bool unicode) {
  static const char signs[] = " .-#,Hg@|O+X!?";
  static const uint32_t shades[] = {0x2591, 0x2591, 0x2592, 0x2592, 0x2593, 0x2593, 0x2588, 0x2588};
  _Static_assert(sizeof signs - 1 == PICTURE_KINDS, "a sign per kind");
  if (kind != PICTURE_SLAB) return (unsigned char)signs[kind];
  return unicode ? shades[level] : (uint32_t)('0' + level);
}

static uint32_t sign_at(const struct picture *p, const struct screen_view *view, unsigned x,
                        unsigned y, bool unicode) {
  struct area a = area_at(p, view, view->x + x, view->y + y);
  struct counting c = {0};
  unsigned most = 0;
  if (a.nhugepages == 0) return ' ';
  visit(p, &a, count_cell, &c);
  if (c.pinned > 0) return '*';
  for (unsigned k = 1; k < PICTURE_KINDS; k++)
    if (c.kinds[k] > c.kinds[most]) most = k;
  return sign_of(most, c.levels[most] / c.kinds[most], unicode);
}

void screen_draw(struct screen *s, const struct picture *p, const struct screen_view *view,
                 const struct screen_style *style) {
  for (unsigned y = 0; y < s->height; y++)
    for (unsigned x = 0; x < s->width; x++) {
      struct screen_cell cell = {UPPER_HALF, SCREEN_DEFAULT, SCREEN_DEFAULT};
      if (style->colour) {
        cell.fg = pixel(p, view, style->theme, x, 2 * y);
        cell.bg = pixel(p, view, style->theme, x, 2 * y + 1);
        if (cell.fg == SCREEN_DEFAULT) cell.glyph = ' ';
        if (cell.fg == SCREEN_DEFAULT && cell.bg != SCREEN_DEFAULT)
          cell = (struct screen_cell){0x2584, cell.bg, SCREEN_DEFAULT}; /* the lower half */
      } else {
        cell.glyph = sign_at(p, view, x, y, style->unicode);
      }
      put(s, x, y, cell);
    }
}

/* ---- legend ---- */

struct flow { /* items that break into rows */
  struct screen *screen;
  unsigned x, y;
  bool draw;
};

static void item(struct flow *f, unsigned swatches, const struct screen_cell *swatch,
                 const char *text) {
  unsigned length = swatches + 1 + (unsigned)strlen(text);
  if (f->x > 0 && f->x + length > f->screen->width) {
    f->x = 0;
    f->y++;
  }
  for (unsigned i = 0; i < swatches; i++) put(f->screen, f->x + i, f->y, swatch[i]);
  screen_text(f->screen, f->x + swatches + 1, f->y, SCREEN_DEFAULT, text);
  f->x += length + 2;
}

static void kind_item(struct flow *f, const struct picture *p, const struct screen_style *style,
                      unsigned kind) {
  static const unsigned levels[] = {0, 2, 5, 7};
  struct screen_cell swatch[4];
  bool shaded = kind == PICTURE_SLAB || kind == PICTURE_HOST;
  char bytes[24], text[80];
  unsigned n = shaded && (style->colour || kind == PICTURE_SLAB) ? 4 : 1;
  for (unsigned i = 0; i < n; i++) {
    unsigned level = n == 1 ? PICTURE_LEVELS - 1 : levels[i];
    swatch[i] = style->colour ? (struct screen_cell){' ', SCREEN_DEFAULT,
                                                     palette_colour(style->theme, kind, level)}
                              : (struct screen_cell){sign_of(kind, level, style->unicode),
                                                     SCREEN_DEFAULT, SCREEN_DEFAULT};
  }
  snprintf(text, sizeof text, "%s %s", picture_kind_text(kind),
           cli_bytes(p->kinds[kind] * 4096, bytes));
  item(f, n, swatch, text);
}

static void mark_item(struct flow *f, const struct picture *p, const struct screen_style *style,
                      unsigned mark) {
  char bytes[24], text[80];
  struct screen_cell swatch = {' ', SCREEN_DEFAULT, SCREEN_DEFAULT};
  if (style->colour)
    swatch.bg = palette_mark(style->theme, mark);
  else
    swatch.glyph = mark == 0 ? '*' : ' ';
  snprintf(text, sizeof text, "%s %s", picture_mark_name(mark),
           cli_bytes(p->marks[mark] * 4096, bytes));
  item(f, 1, &swatch, text);
}

unsigned screen_legend(struct screen *s, const struct picture *p,
                       const struct screen_style *style) {
  static const uint8_t order[] = {
      PICTURE_SLAB,   PICTURE_HOST,     PICTURE_GUEST,  PICTURE_FOLIO, PICTURE_OWNED,
      PICTURE_META,   PICTURE_FREE,     PICTURE_HOLLOW, PICTURE_GUARD, PICTURE_DISCARDED,
      PICTURE_POISON, PICTURE_RESERVED, PICTURE_UNSURE, PICTURE_UNUSED};
  struct flow f = {.screen = s};
  for (unsigned i = 0; i < sizeof order; i++)
    if (p->kinds[order[i]] > 0) kind_item(&f, p, style, order[i]);
  for (unsigned m = 0; m < 2; m++)
    if (p->marks[m] > 0) mark_item(&f, p, style, m);
  return f.y + 1;
}

/* ---- a page ---- */

static void scale_text(const struct screen_view *view, char *out, size_t size) {
  if (view->step <= 0)
    snprintf(out, size, "a cell: 4 KiB");
  else if (view->step < HUGEPAGE_STEP)
    snprintf(out, size, "a cell: %u frames", 1u << 2 * view->step);
  else
    snprintf(out, size, "a cell: %u MiB", 2 * hugepages_of(view->step));
}

static void title(struct screen *s, const struct snapshot *snapshot, const struct picture *p,
                  const struct screen_view *view) {
  char text[200], held[24], live[24], scale[48], when[32] = "";
  time_t t = (time_t)(snapshot->process.time_ns / 1000000000);
  struct tm tm;
  if (localtime_r(&t, &tm) != NULL) strftime(when, sizeof when, "%T", &tm);
  scale_text(view, scale, sizeof scale);
  snprintf(text, sizeof text, "%.32s %llu  %s held, %s live  %s  %s", snapshot->process.comm,
           (unsigned long long)snapshot->process.pid, cli_bytes(p->held * 4096, held),
           cli_bytes(p->live, live), scale, when);
  screen_text(s, 0, 0, SCREEN_DEFAULT, text);
}

unsigned screen_page(struct screen *s, const struct snapshot *snapshot, const struct picture *p,
                     const struct screen_style *style) {
  struct screen_cell scratch[1] = {{0}};
  struct screen nothing = {scratch, 0, s->width, 0};
  unsigned legend = screen_legend(&nothing, p, style), width, height;
  screen_clear(s);
  if (s->height < 4) return 0;
  if (legend > LEGEND_ROWS_MAX) legend = LEGEND_ROWS_MAX;
  if (legend + 3 > s->height) legend = s->height - 3;
  struct screen map = {s->cells + s->stride, s->stride, s->width, s->height - 2 - legend};
  struct screen_view view = screen_fit(p, &map, style);
  screen_extent(p, &view, &width, &height);
  unsigned rows = style->colour ? (height + 1) / 2 : height;
  if (rows > map.height) rows = map.height;
  map.height = rows;
  title(s, snapshot, p, &view);
  screen_draw(&map, p, &view, style);
  struct screen below = {s->cells + (size_t)(rows + 2) * s->stride, s->stride, s->width, legend};
  screen_legend(&below, p, style);
  return rows + 2 + legend;
}
