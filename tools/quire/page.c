#include "tools/quire/page.h"

#include <stdlib.h>

#include "tools/quire/embed.h"

static void put_escaped(const char *text, FILE *out) {
  for (; *text != 0; text++) {
    if (*text == '<')
      fputs("&lt;", out);
    else if (*text == '&')
      fputs("&amp;", out);
    else
      fputc(*text, out);
  }
}

static void put_base64(const uint8_t *bytes, size_t size, FILE *out) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  char line[4 * 1024];
  size_t used = 0;
  for (size_t i = 0; i < size; i += 3) {
    unsigned n = size - i < 3 ? (unsigned)(size - i) : 3;
    uint32_t word = (uint32_t)bytes[i] << 16;
    if (n > 1) word |= (uint32_t)bytes[i + 1] << 8;
    if (n > 2) word |= bytes[i + 2];
    line[used++] = digits[word >> 18];
    line[used++] = digits[word >> 12 & 63];
    line[used++] = n > 1 ? digits[word >> 6 & 63] : '=';
    line[used++] = n > 2 ? digits[word & 63] : '=';
    if (used == sizeof line) {
      fwrite(line, 1, used, out);
      used = 0;
    }
  }
  fwrite(line, 1, used, out);
}

/* '<' would end the script if it came as part of a tag's end, so none goes out. */
static void put_json(json_t *value, FILE *out) {
  char *text = value == NULL ? NULL : json_dumps(value, JSON_COMPACT | JSON_ENSURE_ASCII);
  for (const char *c = text == NULL ? "null" : text; *c != 0; c++) {
    if (*c == '<')
      fputs("\\u003c", out);
    else
      fputc(*c, out);
  }
  free(text);
  json_decref(value);
}

static json_t *theme_json(enum palette_theme theme) {
  const struct palette_page *page = &palette_pages[theme];
  json_t *colours = json_array(), *marks = json_array();
  for (unsigned k = 0; k < PICTURE_KINDS; k++) {
    json_t *levels = json_array();
    for (unsigned l = 0; l < PICTURE_LEVELS; l++)
      json_array_append_new(levels, json_integer(palette_colour(theme, k, l)));
    json_array_append_new(colours, levels);
  }
  for (unsigned m = 0; m < PICTURE_MARKS; m++)
    json_array_append_new(marks, json_integer(palette_mark(theme, m)));
  return json_pack("{s:o, s:o, s:i, s:i, s:i}", "colours", colours, "marks", marks, "paper",
                   (int)page->paper, "ink", (int)page->ink, "faint", (int)page->faint);
}

static json_t *words_json(const char *(*word)(unsigned), unsigned n) {
  json_t *out = json_array();
  for (unsigned i = 0; i < n; i++) json_array_append_new(out, json_string(word(i)));
  return out;
}

static json_t *settings_json(const struct page *page) {
  json_t *labels = json_array();
  for (unsigned i = 0; i < 2 && page->labels[0] != NULL; i++)
    json_array_append_new(labels, json_string(page->labels[i]));
  return json_pack(
      "{s:o, s:o, s:o, s:o, s:o, s:s?, s:o}", "light", theme_json(PALETTE_LIGHT), "dark",
      theme_json(PALETTE_DARK), "kinds", words_json(picture_kind_name, PICTURE_KINDS), "texts",
      words_json(picture_kind_text, PICTURE_KINDS), "marks",
      words_json(picture_mark_name, PICTURE_MARKS), "theme", page->theme, "labels", labels);
}

bool page_write(const struct page *page, FILE *out) {
  fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        "<link rel=\"icon\" href=\"data:,\">\n<title>",
        out);
  put_escaped(page->title, out);
  fputs("</title>\n<style>\n", out);
  fputs(embed_style, out);
  fputs("</style>\n</head>\n<body>\n", out);
  fputs(embed_body, out);
  fputs("<script>\nconst QUIRE = ", out);
  put_json(settings_json(page), out);
  fputs(";\nQUIRE.recording = \"", out);
  put_base64(page->recording, page->size, out);
  fputs("\";\n", out);
  fputs(embed_script, out);
  fputs("</script>\n</body>\n</html>\n", out);
  return fflush(out) == 0 && !ferror(out);
}
