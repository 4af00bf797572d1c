/* The HTML page: one file that needs no other and no network. It carries a recording and shows it
 * with a script of its own (page/), in the colours of picture.h. */
#ifndef QUIRE_TOOLS_PAGE_H
#define QUIRE_TOOLS_PAGE_H

#include <stddef.h>
#include <stdio.h>

#include "tools/quire/picture.h"

struct page {
  const char *title;
  const char *theme;     /* "light", "dark", or NULL: as the browser likes it */
  const char *labels[2]; /* of the two sides; NULL when it isn't to begin with a comparison */
  const void *recording; /* a whole file's bytes */
  size_t size;
};

/* False when it could not be written, with errno. */
bool page_write(const struct page *page, FILE *out);

#endif
