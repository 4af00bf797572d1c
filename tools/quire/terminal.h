/* The terminal: what it can show, how large it is, and a screen's way there. */
#ifndef QUIRE_TOOLS_TERMINAL_H
#define QUIRE_TOOLS_TERMINAL_H

#include "tools/quire/screen.h"

enum terminal_depth { TERMINAL_PLAIN, TERMINAL_256, TERMINAL_TRUE };

struct terminal {
  enum terminal_depth depth;
  struct screen_style style;
  unsigned width, height;
};

/* Of standard output. `theme` NULL: what COLORFGBG says, else dark. False when it is unknown. */
bool terminal_probe(struct terminal *out, const char *theme);
void terminal_measure(struct terminal *terminal);

/* Rows of a screen, each with a newline behind it; no row is longer than the screen is wide. */
void terminal_print(FILE *out, const struct terminal *terminal, const struct screen *screen,
                    unsigned rows);
/* The same in place from the upper left corner, without the last newline. */
void terminal_paint(FILE *out, const struct terminal *terminal, const struct screen *screen);

/* The nearest of the 256 colours that most terminals have. */
unsigned terminal_colour256(uint32_t colour);

#endif
