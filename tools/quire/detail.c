#include "tools/quire/detail.h"

#include <ncurses.h>
#include <stdlib.h>
#include <string.h>

#include "tools/quire/terminal.h"

/* The page of numbers is as wide as that, but for long command lines; a map should be wider than
 * this, and not lower than that. */
enum { NUMBERS_WIDTH = 78, MAP_WIDTH_MIN = 44, MAP_ROWS_MIN = 6, BETWEEN = 2 };

/* ---- what is looked at ---- */

static void release(struct detail *d) {
  if (!d->have) return;
  picture_free(&d->picture);
  snapshot_free(&d->snapshot);
  d->have = false;
}

void detail_look(struct detail *d, pid_t pid) {
  struct process process;
  struct snapshot fresh;
  struct picture picture;
  if (d->have && d->snapshot.process.pid != (uint64_t)pid) release(d);
  *d->error = 0;
  if (process_open(&process, pid, d->error) != STATUS_OK) return;
  if (process_snapshot(&process, &fresh, d->error) != STATUS_OK) return;
  if (!picture_make(&fresh, &picture)) {
    snapshot_free(&fresh);
    strcpy(d->error, "no memory for the picture");
    return;
  }
  release(d);
  d->snapshot = fresh;
  picture_clean_names(&d->snapshot.process);
  d->picture = picture;
  d->have = d->stale = true;
}

void detail_close(struct detail *d) {
  release(d);
  free(d->screen.cells);
  d->screen = (struct screen){0};
  d->scroll = 0;
}

/* ---- the map ---- */

/* A terminal's own colour is -1 to curses; those with millions take them as they are. */
static int colour_of(uint32_t colour) {
  if (colour == SCREEN_DEFAULT) return -1;
  return COLORS > 256 ? (int)colour : (int)terminal_colour256(colour);
}

static void put_cell(const struct screen_cell *cell, unsigned x, unsigned y, bool colour) {
  wchar_t text[2] = {(wchar_t)cell->glyph, 0};
  cchar_t out;
  int pair = 0;
  if (colour && (cell->fg != SCREEN_DEFAULT || cell->bg != SCREEN_DEFAULT)) {
    pair = alloc_pair(colour_of(cell->fg), colour_of(cell->bg));
    if (pair < 0) pair = 0;
  }
  if (setcchar(&out, text, A_NORMAL, 0, &pair) == OK) mvadd_wch((int)y, (int)x, &out);
}

static bool draw_anew(struct detail *d, unsigned width, unsigned rows) {
  size_t n = (size_t)width * rows;
  struct screen_cell *cells = realloc(d->screen.cells, n * sizeof *cells);
  if (cells == NULL) return false;
  d->screen = (struct screen){cells, width, width, rows};
  screen_clear(&d->screen);
  d->used = screen_page(&d->screen, &d->snapshot, &d->picture, &d->style);
  d->stale = false;
  return true;
}

/* How many rows that took. */
static unsigned draw_map(struct detail *d, unsigned x, unsigned y, unsigned width, unsigned rows) {
  if (width == 0 || rows == 0) return 0;
  if (!d->have) {
    mvaddnstr((int)y, (int)x, d->error, (int)width);
    return 1;
  }
  if (d->stale || d->screen.width != width || d->screen.height != rows)
    if (!draw_anew(d, width, rows)) return 0;
  for (unsigned row = 0; row < d->used; row++)
    for (unsigned column = 0; column < width; column++)
      put_cell(&d->screen.cells[(size_t)row * width + column], x + column, y + row,
               d->style.colour);
  return d->used;
}

/* ---- the numbers ---- */

static char *text_of(const struct report *r) {
  char *text = NULL;
  size_t length = 0;
  FILE *out = open_memstream(&text, &length);
  if (out == NULL) return NULL;
  report_text(r, out);
  if (fclose(out) == 0) return text;
  free(text);
  return NULL;
}

static void draw_numbers(struct detail *d, const struct report *r, unsigned y, unsigned width,
                         unsigned rows) {
  char *text = text_of(r), *rest = text, *line;
  unsigned n = 0, lines = 0;
  if (text == NULL) return;
  for (const char *c = text; *c != 0; c++) lines += *c == '\n';
  unsigned last = lines > rows ? lines - rows : 0;
  if (d->scroll > last) d->scroll = last;
  for (; (line = strsep(&rest, "\n")) != NULL; n++) {
    if (n < d->scroll || n - d->scroll >= rows) continue;
    attrset(n == 1 ? A_DIM : *line != ' ' ? A_BOLD : A_NORMAL); /* the command line; titles */
    mvaddnstr((int)(y + n - d->scroll), 0, line, (int)width);
    attrset(A_NORMAL);
  }
  free(text);
}

/* ---- both ---- */

void detail_draw(struct detail *d, const struct report *r, unsigned top, unsigned rows) {
  unsigned width = COLS > 0 ? (unsigned)COLS : 0;
  if (d->show == DETAIL_NUMBERS) {
    draw_numbers(d, r, top, width, rows);
  } else if (d->show == DETAIL_MAP) {
    draw_map(d, 0, top, width, rows);
  } else if (width >= NUMBERS_WIDTH + BETWEEN + MAP_WIDTH_MIN) {
    draw_numbers(d, r, top, NUMBERS_WIDTH, rows);
    draw_map(d, NUMBERS_WIDTH + BETWEEN, top, width - NUMBERS_WIDTH - BETWEEN, rows);
  } else {
    unsigned map = rows * 3 / 5;
    unsigned used = map < MAP_ROWS_MIN ? 0 : draw_map(d, 0, top, width, map) + 1;
    if (used < rows) draw_numbers(d, r, top + used, width, rows - used);
  }
}
