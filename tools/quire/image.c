/* Theory. Each hugepage is a grid of cells; neighbours of one colour are one rectangle, and all
 * rectangles of one colour one path, so that an SVG of a large heap stays small. */
#include "tools/quire/image.h"

#include <cairo.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tools/quire/cli.h"

enum {
  MARGIN = 24,
  TITLE_HEIGHT = 52, /* above a panel */
  LEGEND_GAP = 18,
  LEGEND_ROW = 20,
  SWATCH = 12,
  CELL_MAX = 10,
  SIGNS_FROM = 4, /* pixels of a cell from which signs are drawn in it */
  WIDTH_ONE = 1200,
  WIDTH_TWO = 1480,
  SIDE_MAX = 32000, /* of cairo's surfaces */
};

/* ---- measures ---- */

struct layout {
  unsigned cell, gap, columns, rows;
  unsigned panel_width, panel_height, panels_x, legend_y, legend_rows;
  unsigned width, height;
};

static unsigned most_hugepages(const struct image *image) {
  unsigned n = 1;
  for (unsigned i = 0; i < image->npanels; i++)
    if (image->panels[i].picture->nhugepages > n) n = image->panels[i].picture->nhugepages;
  return n;
}

/* As large as cells can be so that a panel is no higher than wide. */
static struct layout layout_of(const struct image *image) {
  unsigned total = image->width, n = most_hugepages(image), panels = image->npanels;
  struct layout l = {0};
  if (total == 0) total = panels == 1 ? WIDTH_ONE : WIDTH_TWO;
  unsigned wide = total > (panels + 1) * MARGIN ? (total - (panels + 1) * MARGIN) / panels : 1;
  for (l.cell = CELL_MAX; l.cell > 0; l.cell--) {
    l.gap = l.cell < 2 ? 2 : l.cell;
    l.columns = (wide + l.gap) / (HUGEPAGE_COLUMNS * l.cell + l.gap);
    if (l.columns == 0) continue;
    l.rows = (n + l.columns - 1) / l.columns;
    if (l.rows * (HUGEPAGE_ROWS * l.cell + l.gap) <= wide * 9 / 10) break;
  }
  if (l.cell == 0) { /* more than fits: as wide as high, a pixel a frame */
    l.cell = 1;
    for (l.columns = 1; l.columns * 34ull * l.columns * 34 < n * 34ull * 18; l.columns++) continue;
    l.rows = (n + l.columns - 1) / l.columns;
  }
  if (l.columns > n) l.columns = n;
  l.panel_width = l.columns * (HUGEPAGE_COLUMNS * l.cell + l.gap) - l.gap;
  l.panel_height = l.rows * (HUGEPAGE_ROWS * l.cell + l.gap) - l.gap;
  unsigned content = panels * l.panel_width + (panels - 1) * MARGIN;
  l.width = total > content + 2 * MARGIN ? total : content + 2 * MARGIN;
  l.panels_x = (l.width - content) / 2;
  return l;
}

/* ---- colours and text ---- */

/* What is drawn with: cairo; or, for an SVG, its text, and cairo's fonts only to measure by. Cairo
 * could write SVG too, but four times as long. */
struct brush {
  cairo_t *c;
  FILE *svg; /* NULL: an image */
};

static void set_colour(cairo_t *c, uint32_t colour) {
  cairo_set_source_rgb(c, (colour >> 16 & 0xff) / 255.0, (colour >> 8 & 0xff) / 255.0,
                       (colour & 0xff) / 255.0);
}

static void put_escaped(const char *what, FILE *out) {
  for (; *what != 0; what++) {
    if (*what == '<' || *what == '&')
      fprintf(out, "&#%d;", *what);
    else
      fputc(*what, out);
  }
}

/* Returns its width. */
static double text(struct brush *b, double x, double y, uint32_t colour, double size, bool bold,
                   const char *what) {
  cairo_text_extents_t extents;
  cairo_select_font_face(b->c, "sans-serif", CAIRO_FONT_SLANT_NORMAL,
                         bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
  cairo_set_font_size(b->c, size);
  cairo_text_extents(b->c, what, &extents);
  if (b->svg != NULL) {
    /* As wide as measured, whatever font the viewer has. */
    fprintf(b->svg,
            "<text x=\"%g\" y=\"%g\" fill=\"#%06x\" font-size=\"%g\"%s textLength=\"%.1f\">", x, y,
            colour, size, bold ? " font-weight=\"bold\"" : "", extents.x_advance);
    put_escaped(what, b->svg);
    fputs("</text>\n", b->svg);
  } else {
    set_colour(b->c, colour);
    cairo_move_to(b->c, x, y);
    cairo_show_text(b->c, what);
  }
  return extents.x_advance;
}

static void square(struct brush *b, double x, double y, double size, uint32_t colour) {
  if (b->svg != NULL) {
    fprintf(b->svg, "<rect x=\"%g\" y=\"%g\" width=\"%g\" height=\"%g\" fill=\"#%06x\"/>\n", x, y,
            size, size, colour);
    return;
  }
  set_colour(b->c, colour);
  cairo_rectangle(b->c, x, y, size, size);
  cairo_fill(b->c);
}

/* ---- rectangles ---- */

struct rectangle {
  uint32_t colour;
  uint16_t x, y, width, height; /* pixels in the panel */
};

struct rectangles {
  struct rectangle *all;
  size_t n, capacity;
  bool failed;
};

static void add(struct rectangles *r, struct rectangle one) {
  if (r->n == r->capacity) {
    size_t more = r->capacity == 0 ? 4096 : r->capacity * 2;
    struct rectangle *all = realloc(r->all, more * sizeof *all);
    if (all == NULL) {
      r->failed = true;
      return;
    }
    r->all = all;
    r->capacity = more;
  }
  r->all[r->n++] = one;
}

/* What is alike in a hugepage: runs of a row, and a run with the same one below it. */
static void add_hugepage(struct rectangles *r, const struct layout *l,
                         const uint32_t colours[HUGEPAGE_CELLS], unsigned left, unsigned top) {
  bool done[HUGEPAGE_CELLS] = {false};
  for (unsigned i = 0; i < HUGEPAGE_CELLS; i++) {
    unsigned x = i % HUGEPAGE_COLUMNS, y = i / HUGEPAGE_COLUMNS, width = 1, height = 1;
    if (done[i]) continue;
    while (x + width < HUGEPAGE_COLUMNS && !done[i + width] && colours[i + width] == colours[i])
      width++;
    for (bool same = true; same && y + height < HUGEPAGE_ROWS; height += same)
      for (unsigned k = 0; k < width && same; k++)
        same = !done[i + height * HUGEPAGE_COLUMNS + k] &&
               colours[i + height * HUGEPAGE_COLUMNS + k] == colours[i];
    for (unsigned row = 0; row < height; row++) memset(done + i + row * HUGEPAGE_COLUMNS, 1, width);
    add(r, (struct rectangle){colours[i], (uint16_t)(left + x * l->cell),
                              (uint16_t)(top + y * l->cell), (uint16_t)(width * l->cell),
                              (uint16_t)(height * l->cell)});
  }
}

static int by_colour(const void *a, const void *b) {
  const struct rectangle *x = a, *y = b;
  return (x->colour > y->colour) - (x->colour < y->colour);
}

/* Those of one colour, which are n. */
static void fill_alike(struct brush *b, const struct rectangle *r, size_t n, unsigned left,
                       unsigned top) {
  if (b->svg != NULL) {
    fprintf(b->svg, "<path fill=\"#%06x\" d=\"", r->colour);
    for (size_t i = 0; i < n; i++)
      fprintf(b->svg, "M%u %uh%uv%uh-%uz", left + r[i].x, top + r[i].y, r[i].width, r[i].height,
              r[i].width);
    fputs("\"/>\n", b->svg);
    return;
  }
  cairo_new_path(b->c);
  for (size_t i = 0; i < n; i++)
    cairo_rectangle(b->c, left + r[i].x, top + r[i].y, r[i].width, r[i].height);
  set_colour(b->c, r->colour);
  cairo_fill(b->c);
}

static void fill_rectangles(struct brush *b, struct rectangles *r, unsigned left, unsigned top) {
  size_t n;
  if (r->n > 0) qsort(r->all, r->n, sizeof *r->all, by_colour);
  for (size_t i = 0; i < r->n; i += n) {
    for (n = 1; i + n < r->n && r->all[i + n].colour == r->all[i].colour; n++) continue;
    fill_alike(b, r->all + i, n, left, top);
  }
}

/* ---- panels ---- */

/* Signs where cells have room: a bar through guests, a dot in what has been discarded, a square in
 * what is pinned, a bar at the foot of what is frozen. */
static void add_signs(struct rectangles *r, const struct layout *l,
                      const struct picture_cell *cells, enum palette_theme theme, unsigned left,
                      unsigned top) {
  unsigned third = l->cell / 3, c = l->cell;
  for (unsigned i = 0; i < HUGEPAGE_CELLS; i++) {
    struct picture_cell cell = cells[i];
    uint16_t x = (uint16_t)(left + i % HUGEPAGE_COLUMNS * c);
    uint16_t y = (uint16_t)(top + i / HUGEPAGE_COLUMNS * c), size = (uint16_t)(c - 2 * third);
    uint16_t in = (uint16_t)third, all = (uint16_t)c;
    if (cell.kind == PICTURE_GUEST)
      add(r, (struct rectangle){palette_colour(theme, PICTURE_HOST, 3), x, (uint16_t)(y + c / 2),
                                all, 1});
    if (cell.kind == PICTURE_HOLLOW)
      add(r, (struct rectangle){palette_colour(theme, PICTURE_SLAB, 2), (uint16_t)(x + c / 2),
                                (uint16_t)(y + c / 2), 1, 1});
    if (cell.marks & PICTURE_FROZEN)
      add(r, (struct rectangle){palette_mark(theme, 1), x, (uint16_t)(y + c - third), all, in});
    if (cell.marks & PICTURE_PINNED)
      add(r, (struct rectangle){palette_mark(theme, 0), (uint16_t)(x + in), (uint16_t)(y + in),
                                size, size});
  }
}

static bool draw_cells(struct brush *b, const struct image *image, const struct layout *l,
                       const struct picture *p, unsigned left, unsigned top) {
  struct rectangles r = {0}, signs = {0};
  uint32_t colours[HUGEPAGE_CELLS];
  bool with_signs = l->cell >= SIGNS_FROM;
  for (uint32_t h = 0; h < p->nhugepages; h++) {
    const struct picture_cell *cells = p->cells + (size_t)h * HUGEPAGE_CELLS;
    unsigned x = h % l->columns * (HUGEPAGE_COLUMNS * l->cell + l->gap);
    unsigned y = h / l->columns * (HUGEPAGE_ROWS * l->cell + l->gap);
    for (unsigned i = 0; i < HUGEPAGE_CELLS; i++)
      colours[i] = with_signs ? palette_colour(image->theme, cells[i].kind, cells[i].level)
                              : palette_cell(image->theme, cells[i]);
    add_hugepage(&r, l, colours, x, y);
    if (with_signs) add_signs(&signs, l, cells, image->theme, x, y);
  }
  bool ok = !r.failed && !signs.failed;
  cairo_set_antialias(b->c, CAIRO_ANTIALIAS_NONE);
  if (ok) fill_rectangles(b, &r, left, top);
  if (ok && signs.n > 0) fill_rectangles(b, &signs, left, top);
  cairo_set_antialias(b->c, CAIRO_ANTIALIAS_DEFAULT);
  free(r.all);
  free(signs.all);
  return ok;
}

static void draw_title(struct brush *b, const struct image *image, const struct image_panel *panel,
                       double x, double y) {
  const struct palette_page *page = &palette_pages[image->theme];
  const struct snapshot_process *process = &panel->snapshot->process;
  char title[160], when[40] = "", held[24], live[24];
  time_t t = (time_t)(process->time_ns / 1000000000);
  struct tm tm;
  if (localtime_r(&t, &tm) != NULL) strftime(when, sizeof when, "%F %T", &tm);
  snprintf(title, sizeof title, "%s: %s held", *panel->caption ? panel->caption : process->comm,
           cli_bytes(panel->picture->held * 4096, held));
  double end = text(b, x, y + 16, page->ink, 18, true, title);
  snprintf(title, sizeof title, "%s live", cli_bytes(panel->picture->live, live));
  text(b, x + end + 14, y + 16, page->ink, 18, false, title);
  snprintf(title, sizeof title, "%s, process %llu, %s", process->comm,
           (unsigned long long)process->pid, when);
  text(b, x, y + 38, page->faint, 14, false, title);
}

/* ---- legend ---- */

struct legend {
  struct brush *b; /* NULL: only measure */
  const struct image *image;
  double x, y, left, right;
};

static void legend_item(struct legend *g, unsigned kind, unsigned nlevels, uint32_t colour,
                        const char *what) {
  const struct palette_page *page = &palette_pages[g->image->theme];
  double width = nlevels * SWATCH + 6 + strlen(what) * 7.0 + 18;
  if (g->x + width > g->right && g->x > g->left) {
    g->x = g->left;
    g->y += LEGEND_ROW;
  }
  for (unsigned i = 0; g->b != NULL && i < nlevels; i++) {
    double x = g->x + i * SWATCH;
    if (nlevels > 1) colour = palette_colour(g->image->theme, kind, i);
    /* What is nearly the paper's colour needs an edge. */
    if (nlevels == 1) square(g->b, x - 1, g->y - 1, SWATCH + 2, page->faint);
    square(g->b, x, g->y, SWATCH, colour);
  }
  if (g->b != NULL)
    width = nlevels * SWATCH + 6 + 18 +
            text(g->b, g->x + nlevels * SWATCH + 6, g->y + 11, page->ink, 13, false, what);
  g->x += ceil(width);
}

static uint64_t most_of(const struct image *image, unsigned kind) {
  uint64_t most = 0;
  for (unsigned i = 0; i < image->npanels; i++)
    if (image->panels[i].picture->kinds[kind] > most) most = image->panels[i].picture->kinds[kind];
  return most;
}

/* "slab 146.6 MiB", and behind an arrow what it is after. */
static void legend_amounts(const struct image *image, const char *name, const uint64_t *frames[],
                           char *out, size_t size) {
  char amount[24];
  size_t used = (size_t)snprintf(out, size, "%s ", name);
  for (unsigned i = 0; i < image->npanels && used < size; i++) {
    if (i > 0 && *frames[i] == *frames[0]) break;
    used += (size_t)snprintf(out + used, size - used, "%s%s", i > 0 ? " \xe2\x86\x92 " : "",
                             cli_bytes(*frames[i] * 4096, amount));
  }
}

static void legend_kind(struct legend *g, unsigned kind) {
  bool shaded = kind == PICTURE_SLAB || kind == PICTURE_HOST;
  const uint64_t *frames[IMAGE_PANELS] = {0};
  char what[160];
  for (unsigned i = 0; i < g->image->npanels; i++)
    frames[i] = &g->image->panels[i].picture->kinds[kind];
  legend_amounts(g->image, kind == PICTURE_SLAB ? "slab, sparse to full" : picture_kind_text(kind),
                 frames, what, sizeof what);
  legend_item(g, kind, shaded ? PICTURE_LEVELS : 1,
              palette_colour(g->image->theme, kind, PICTURE_LEVELS - 1), what);
}

static void legend_mark(struct legend *g, unsigned mark) {
  const uint64_t *frames[IMAGE_PANELS] = {0};
  char what[160];
  for (unsigned i = 0; i < g->image->npanels; i++)
    frames[i] = &g->image->panels[i].picture->marks[mark];
  legend_amounts(g->image, picture_mark_name(mark), frames, what, sizeof what);
  legend_item(g, 0, 1, palette_mark(g->image->theme, mark), what);
}

/* Returns its height. */
static double draw_legend(struct legend *g) {
  static const uint8_t order[] = {
      PICTURE_SLAB,   PICTURE_HOST,     PICTURE_GUEST,  PICTURE_FOLIO,     PICTURE_META,
      PICTURE_OWNED,  PICTURE_FREE,     PICTURE_HOLLOW, PICTURE_DISCARDED, PICTURE_GUARD,
      PICTURE_POISON, PICTURE_RESERVED, PICTURE_UNSURE, PICTURE_UNUSED};
  double top = g->y;
  for (unsigned i = 0; i < sizeof order; i++)
    if (most_of(g->image, order[i]) > 0) legend_kind(g, order[i]);
  for (unsigned m = 0; m < 2; m++) {
    bool any = false;
    for (unsigned i = 0; i < g->image->npanels; i++)
      any |= g->image->panels[i].picture->marks[m] > 0;
    if (any) legend_mark(g, m);
  }
  return g->y + LEGEND_ROW - top;
}

/* ---- the whole ---- */

static bool draw(struct brush *b, const struct image *image, const struct layout *l) {
  bool ok = true;
  for (unsigned i = 0; ok && i < image->npanels; i++) {
    unsigned x = l->panels_x + i * (l->panel_width + MARGIN);
    draw_title(b, image, &image->panels[i], x, MARGIN);
    ok = draw_cells(b, image, l, image->panels[i].picture, x, MARGIN + TITLE_HEIGHT);
  }
  struct legend legend = {b, image, l->panels_x, l->legend_y, l->panels_x, l->width - l->panels_x};
  draw_legend(&legend);
  return ok;
}

__attribute__((format(printf, 3, 4))) static bool fail(char error[IMAGE_ERROR_MAX],
                                                       const char *path, const char *format, ...) {
  va_list args;
  int n = snprintf(error, IMAGE_ERROR_MAX, "%.128s: ", path);
  va_start(args, format);
  vsnprintf(error + n, IMAGE_ERROR_MAX - (size_t)n, format, args);
  va_end(args);
  return false;
}

/* Half an image is worse than none. */
static void take_away(const char *path) {
  struct stat st;
  if (lstat(path, &st) == 0 && S_ISREG(st.st_mode)) unlink(path);
}

static bool write_png(const struct image *image, const struct layout *l, const char *path,
                      char error[IMAGE_ERROR_MAX]) {
  cairo_surface_t *surface =
      cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)l->width, (int)l->height);
  struct brush b = {cairo_create(surface), NULL};
  set_colour(b.c, palette_pages[image->theme].paper);
  cairo_paint(b.c);
  bool drawn = draw(&b, image, l);
  cairo_status_t status = cairo_status(b.c);
  cairo_destroy(b.c);
  errno = 0;
  if (drawn && status == CAIRO_STATUS_SUCCESS) status = cairo_surface_write_to_png(surface, path);
  int because = errno;
  cairo_surface_destroy(surface);
  if (!drawn) return fail(error, path, "no memory for it");
  if (status == CAIRO_STATUS_SUCCESS) return true;
  if (because == 0) return fail(error, path, "%s", cairo_status_to_string(status));
  take_away(path);
  return fail(error, path, "%s", strerror(because));
}

static bool write_svg(const struct image *image, const struct layout *l, const char *path,
                      char error[IMAGE_ERROR_MAX]) {
  cairo_surface_t *nothing = cairo_image_surface_create(CAIRO_FORMAT_A8, 1, 1);
  struct brush b = {cairo_create(nothing), fopen(path, "w")};
  bool drawn = b.svg != NULL;
  if (drawn) {
    fprintf(b.svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%u\" height=\"%u\" "
            "viewBox=\"0 0 %u %u\" font-family=\"sans-serif\" shape-rendering=\"crispEdges\">\n"
            "<path fill=\"#%06x\" d=\"M0 0h%uv%uh-%uz\"/>\n",
            l->width, l->height, l->width, l->height, palette_pages[image->theme].paper, l->width,
            l->height, l->width);
    drawn = draw(&b, image, l);
    fputs("</svg>\n", b.svg);
  }
  cairo_destroy(b.c);
  cairo_surface_destroy(nothing);
  if (b.svg == NULL) return fail(error, path, "%s", strerror(errno));
  bool written = !ferror(b.svg);
  if (fclose(b.svg) != 0) written = false;
  if (drawn && written) return true;
  int because = errno;
  take_away(path);
  return fail(error, path, "%s", drawn ? strerror(because) : "no memory for it");
}

bool image_write(const struct image *image, const char *path, char error[IMAGE_ERROR_MAX]) {
  struct layout l = layout_of(image);
  struct legend measure = {NULL, image, l.panels_x, 0, l.panels_x, l.width - l.panels_x};
  l.legend_y = MARGIN + TITLE_HEIGHT + l.panel_height + LEGEND_GAP;
  l.height = l.legend_y + (unsigned)draw_legend(&measure) + MARGIN / 2;
  if (l.width > SIDE_MAX || l.height > SIDE_MAX)
    return fail(error, path, "%u x %u pixels are too many for an image", l.width, l.height);
  return image->format == IMAGE_SVG ? write_svg(image, &l, path, error)
                                    : write_png(image, &l, path, error);
}
