/* Prints the one option table for readers:
 *
 *   options-text man FILE   FILE with its line @OPTIONS@ replaced by man(7) paragraphs, and
 * @VERSION@ anywhere by the version options-text header     the comment that include/quire.h has
 * (tests/options.sh compares) */
#include <stdio.h>
#include <string.h>

#include "alloc/options.h"
#include "quire.h"

enum { WIDTH = 100, INDENT = 8 };

/* "16M" for a multiple, else plain digits. */
static const char *short_size(size_t n, char out[24]) {
  static const char suffixes[] = "KMGT";
  int suffix = -1;
  while (n != 0 && n % 1024 == 0 && suffix < 3) {
    n /= 1024;
    suffix++;
  }
  int at = snprintf(out, 24, "%zu", n);
  if (suffix >= 0) snprintf(out + at, (size_t)(24 - at), "%c", suffixes[suffix]);
  return out;
}

static const char *number_text(const struct option_text *o, size_t n, char out[24]) {
  if (strcmp(o->kind, "size") == 0) return short_size(n, out);
  snprintf(out, 24, "%zu", n);
  return out;
}

/* What may follow the colon, and the default. */
static void value_texts(unsigned index, const struct option_text *o, char *values, size_t size,
                        char fallback[24]) {
  char low[24], high[24];
  if (strcmp(o->kind, "choice") == 0) {
    snprintf(values, size, "%s", o->choices);
    (void)option_value(index, fallback, 24); /* nothing was parsed: the default */
    return;
  }
  snprintf(values, size, "%s to %s", number_text(o, o->min, low), number_text(o, o->max, high));
  number_text(o, o->value, fallback);
}

/* ---- include/quire.h ---- */

static void wrapped(const char *text) {
  size_t column = 0;
  while (*text != 0) {
    size_t n = strcspn(text, " ");
    if (column == 0 || column + 1 + n > WIDTH) {
      printf("%s *%*s", column == 0 ? "" : "\n", INDENT - 2, "");
      column = INDENT;
    } else {
      putchar(' ');
      column++;
    }
    printf("%.*s", (int)n, text);
    column += n;
    text += n + strspn(text + n, " ");
  }
  putchar('\n');
}

static void print_header(void) {
  struct option_text o;
  char values[128], fallback[24];
  puts("/* Options, in QUIRE_CONF (default in brackets):\n *");
  for (unsigned i = 0; option_text(i, &o); i++) {
    value_texts(i, &o, values, sizeof values, fallback);
    printf(" *   %s:%s [%s]\n", o.name, values, fallback);
    wrapped(o.text);
  }
  puts(" */");
}

/* ---- docs/quire.3.in ---- */

/* A hyphen is a minus in man(7) unless escaped; a leading point or quote would be a request. */
static void print_roff(const char *text) {
  if (*text == '.' || *text == '\'') fputs("\\&", stdout);
  for (; *text != 0; text++) {
    if (*text == '\\')
      fputs("\\e", stdout);
    else if (*text == '-')
      fputs("\\-", stdout);
    else
      putchar(*text);
  }
}

static void print_options(void) {
  struct option_text o;
  char values[128], fallback[24];
  for (unsigned i = 0; option_text(i, &o); i++) {
    value_texts(i, &o, values, sizeof values, fallback);
    printf(".TP\n.BI %s: \"", o.name);
    if (strcmp(o.kind, "choice") == 0)
      print_roff(values);
    else
      fputs(o.kind, stdout);
    puts("\"");
    print_roff(o.text);
    putchar('\n');
    if (strcmp(o.kind, "choice") == 0)
      printf("Default: %s.\n", fallback);
    else
      printf("From %s; default: %s.\n", values, fallback);
  }
}

static void print_line(const char *line) {
  static const char version[] = "@VERSION@";
  const char *at = strstr(line, version);
  if (at == NULL)
    fputs(line, stdout);
  else
    printf("%.*s%s%s", (int)(at - line), line, QUIRE_VERSION, at + strlen(version));
}

static int print_man(const char *path) {
  char line[1024];
  FILE *in = fopen(path, "r");
  if (in == NULL) {
    perror(path);
    return 1;
  }
  while (fgets(line, sizeof line, in) != NULL) {
    if (strcmp(line, "@OPTIONS@\n") == 0)
      print_options();
    else
      print_line(line);
  }
  fclose(in);
  return 0;
}

int main(int argc, char **argv) {
  int status = 0;
  if (argc == 2 && strcmp(argv[1], "header") == 0) {
    print_header();
  } else if (argc == 3 && strcmp(argv[1], "man") == 0) {
    status = print_man(argv[2]);
  } else {
    fprintf(stderr, "usage: options-text header | man FILE\n");
    status = 2;
  }
  if (fflush(stdout) != 0 || ferror(stdout)) status = 1;
  return status;
}
