/* quire top's view of one process: the map of its heap, and the page of numbers that quire stat
 * prints; beside each other where the window is wide enough, else one below the other.
 *
 * A snapshot is taken when one is asked for, and its picture drawn anew only when that or the
 * window has changed: showing it costs little. */
#ifndef QUIRE_TOOLS_DETAIL_H
#define QUIRE_TOOLS_DETAIL_H

#include "tools/quire/report.h"
#include "tools/quire/screen.h"

enum detail_show { DETAIL_BOTH, DETAIL_MAP, DETAIL_NUMBERS, DETAIL_SHOWS };

struct detail {
  struct screen_style style; /* how pictures are drawn on this terminal */
  enum detail_show show;
  unsigned scroll; /* the first line of numbers that is shown; brought into bounds by drawing */
  bool have;       /* a snapshot */
  struct snapshot snapshot;
  struct picture picture;
  struct screen screen;          /* the picture as it was last drawn, in cells of its own */
  unsigned used;                 /* rows of it */
  bool stale;                    /* that is not of this snapshot */
  char error[PROCESS_ERROR_MAX]; /* why there is no snapshot, or no new one; empty: there is */
};

/* Takes a new snapshot of a process; when it can't be had, what was there of this process stays,
 * and `error` says why. */
void detail_look(struct detail *detail, pid_t pid);

/* In rows `top` to top + rows - 1 of curses' screen, over all its columns. */
void detail_draw(struct detail *detail, const struct report *report, unsigned top, unsigned rows);

/* Forgets the process; how and what to show stays. */
void detail_close(struct detail *detail);

#endif
