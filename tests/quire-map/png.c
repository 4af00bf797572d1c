/*
 * usage: png FILE COLOUR...
 *
 * Prints the width and height of a PNG, then for each colour (hexadecimal RRGGBB) how many pixels
 * have it.
 */
#include <cairo.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
  cairo_surface_t *surface = cairo_image_surface_create_from_png(argc > 1 ? argv[1] : "");
  if (cairo_surface_status(surface) != CAIRO_STATUS_SUCCESS) {
    fprintf(stderr, "png: %s\n", cairo_status_to_string(cairo_surface_status(surface)));
    return 1;
  }
  int width = cairo_image_surface_get_width(surface);
  int height = cairo_image_surface_get_height(surface);
  const unsigned char *data = cairo_image_surface_get_data(surface);
  printf("%d %d\n", width, height);
  for (int i = 2; i < argc; i++) {
    uint32_t colour = (uint32_t)strtoul(argv[i], NULL, 16), pixel;
    long n = 0;
    for (int y = 0; y < height; y++)
      for (int x = 0; x < width; x++) {
        memcpy(&pixel, data + y * cairo_image_surface_get_stride(surface) + x * 4, 4);
        n += (pixel & 0xffffff) == colour;
      }
    printf("%ld\n", n);
  }
  cairo_surface_destroy(surface);
  return 0;
}
