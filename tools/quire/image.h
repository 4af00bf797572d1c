/* Pictures as images: PNG and SVG. */
#ifndef QUIRE_TOOLS_IMAGE_H
#define QUIRE_TOOLS_IMAGE_H

#include "tools/quire/picture.h"

enum image_format { IMAGE_PNG, IMAGE_SVG };

enum { IMAGE_PANELS = 2, IMAGE_ERROR_MAX = 256 };

struct image_panel {
  const struct snapshot *snapshot;
  const struct picture *picture;
  char caption[64]; /* "before"; "" none */
};

struct image {
  enum image_format format;
  enum palette_theme theme;
  unsigned width; /* pixels that it should have about; 0: as is good */
  unsigned npanels;
  struct image_panel panels[IMAGE_PANELS]; /* side by side, at one scale */
};

/* Writes it. False with a sentence in `error`; the file is gone then. */
bool image_write(const struct image *image, const char *path, char error[IMAGE_ERROR_MAX]);

#endif
