#include "tools/quire/terminal.h"

#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tools/quire/cli.h"

/* ---- what it can ---- */

static enum terminal_depth depth_of(void) {
  const char *colour = getenv("COLORTERM"), *term = getenv("TERM");
  if (!cli_may_colour(stdout)) return TERMINAL_PLAIN;
  if (colour != NULL && (strcmp(colour, "truecolor") == 0 || strcmp(colour, "24bit") == 0))
    return TERMINAL_TRUE;
  if (strstr(term, "direct") != NULL) return TERMINAL_TRUE;
  return TERMINAL_256;
}

/* "15;0": foreground and background among the sixteen colours. */
static enum palette_theme theme_of_terminal(void) {
  const char *colours = getenv("COLORFGBG");
  const char *last = colours == NULL ? NULL : strrchr(colours, ';');
  return last != NULL && (strcmp(last, ";7") == 0 || strcmp(last, ";15") == 0) ? PALETTE_LIGHT
                                                                               : PALETTE_DARK;
}

static unsigned from_environment(const char *name, unsigned otherwise) {
  const char *text = getenv(name);
  long value = text == NULL ? 0 : strtol(text, NULL, 10);
  return value > 0 && value < 10000 ? (unsigned)value : otherwise;
}

void terminal_measure(struct terminal *t) {
  struct winsize size;
  t->width = from_environment("COLUMNS", 80);
  t->height = from_environment("LINES", 24);
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) return;
  t->width = size.ws_col;
  t->height = size.ws_row;
}

bool terminal_probe(struct terminal *out, const char *theme) {
  setlocale(LC_CTYPE, "");
  *out = (struct terminal){.depth = depth_of()};
  bool utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
  if (!utf8) out->depth = TERMINAL_PLAIN; /* the picture in colours is made of half blocks */
  out->style.colour = out->depth != TERMINAL_PLAIN;
  out->style.unicode = utf8;
  out->style.theme = theme_of_terminal();
  if (theme != NULL && strcmp(theme, "light") == 0)
    out->style.theme = PALETTE_LIGHT;
  else if (theme != NULL && strcmp(theme, "dark") == 0)
    out->style.theme = PALETTE_DARK;
  else if (theme != NULL)
    return false;
  terminal_measure(out);
  return true;
}

/* ---- colours ---- */

static unsigned distance(unsigned a, unsigned b) {
  return a > b ? (a - b) * (a - b) : (b - a) * (b - a);
}

unsigned terminal_colour256(uint32_t colour) {
  static const unsigned steps[] = {0, 95, 135, 175, 215, 255};
  unsigned part[3] = {colour >> 16 & 0xff, colour >> 8 & 0xff, colour & 0xff}, near[3] = {0};
  unsigned cube = 0;
  for (unsigned i = 0; i < 3; i++) {
    for (unsigned s = 1; s < 6; s++)
      if (distance(steps[s], part[i]) < distance(steps[near[i]], part[i])) near[i] = s;
    cube += distance(steps[near[i]], part[i]);
  }
  unsigned mean = (part[0] + part[1] + part[2]) / 3, grey = mean < 8 ? 0 : (mean - 8 + 5) / 10,
           of = 0;
  if (grey > 23) grey = 23;
  for (unsigned i = 0; i < 3; i++) of += distance(8 + 10 * grey, part[i]);
  return of < cube ? 232 + grey : 16 + 36 * near[0] + 6 * near[1] + near[2];
}

static void put_colour(FILE *out, const struct terminal *t, uint32_t colour, bool background) {
  unsigned code = background ? 48 : 38;
  if (colour == SCREEN_DEFAULT)
    fprintf(out, "\033[%um", code + 1);
  else if (t->depth == TERMINAL_TRUE)
    fprintf(out, "\033[%u;2;%u;%u;%um", code, colour >> 16 & 0xff, colour >> 8 & 0xff,
            colour & 0xff);
  else
    fprintf(out, "\033[%u;5;%um", code, terminal_colour256(colour));
}

static void put_glyph(FILE *out, uint32_t glyph) {
  if (glyph < 0x80) {
    fputc((int)glyph, out);
  } else if (glyph < 0x800) {
    fprintf(out, "%c%c", (int)(0xc0 | glyph >> 6), (int)(0x80 | (glyph & 0x3f)));
  } else {
    fprintf(out, "%c%c%c", (int)(0xe0 | glyph >> 12), (int)(0x80 | (glyph >> 6 & 0x3f)),
            (int)(0x80 | (glyph & 0x3f)));
  }
}

/* ---- rows ---- */

static unsigned length_of(const struct screen_cell *row, unsigned width) {
  while (width > 0 && row[width - 1].glyph == ' ' && row[width - 1].bg == SCREEN_DEFAULT) width--;
  return width;
}

static void put_row(FILE *out, const struct terminal *t, const struct screen_cell *row,
                    unsigned width) {
  uint32_t fg = SCREEN_DEFAULT, bg = SCREEN_DEFAULT;
  unsigned length = length_of(row, width);
  for (unsigned x = 0; x < length; x++) {
    if (t->depth != TERMINAL_PLAIN && row[x].fg != fg && row[x].glyph != ' ')
      put_colour(out, t, fg = row[x].fg, false);
    if (t->depth != TERMINAL_PLAIN && row[x].bg != bg) put_colour(out, t, bg = row[x].bg, true);
    put_glyph(out, row[x].glyph);
  }
  if (fg != SCREEN_DEFAULT || bg != SCREEN_DEFAULT) fputs("\033[0m", out);
}

void terminal_print(FILE *out, const struct terminal *t, const struct screen *s, unsigned rows) {
  for (unsigned y = 0; y < rows && y < s->height; y++) {
    put_row(out, t, s->cells + (size_t)y * s->stride, s->width);
    fputc('\n', out);
  }
}

void terminal_paint(FILE *out, const struct terminal *t, const struct screen *s) {
  fputs("\033[H", out);
  for (unsigned y = 0; y < s->height; y++) {
    if (y > 0) fputs("\r\n", out);
    const struct screen_cell *row = s->cells + (size_t)y * s->stride;
    put_row(out, t, row, s->width);
    /* Behind the last column the cursor still stands on it. */
    if (length_of(row, s->width) < s->width) fputs("\033[K", out);
  }
}
