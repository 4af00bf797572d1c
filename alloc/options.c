#include "alloc/options.h"

#include <string.h>

#include "arch/sys.h"

enum kind { KIND_SIZE, KIND_NUMBER, KIND_CHOICE };

struct option {
  const char *name;
  enum kind kind;
  const char *choices;
  const char *text;
  size_t fallback, min, max;
  size_t *value;
};

#define DEFAULT_NUMBER(name, value, ...) .name = (value),

struct quire_options options = {QUIRE_OPTIONS(DEFAULT_NUMBER, DEFAULT_NUMBER, DEFAULT_NUMBER)};

#define ROW_SIZE(name, value, min, max, text)                                                      \
  {#name, KIND_SIZE, "", text, value, min, max, &options.name},
#define ROW_NUMBER(name, value, min, max, text)                                                    \
  {#name, KIND_NUMBER, "", text, value, min, max, &options.name},
#define ROW_CHOICE(name, value, choices, text)                                                     \
  {#name, KIND_CHOICE, choices, text, value, 0, 0, &options.name},

static const struct option table[] = {QUIRE_OPTIONS(ROW_SIZE, ROW_NUMBER, ROW_CHOICE)};

struct span {
  const char *at;
  size_t length;
};

static bool span_is(struct span s, const char *text) {
  return strlen(text) == s.length && memcmp(s.at, text, s.length) == 0;
}

/* The span up to one of `stops` or the end. */
static struct span next_span(const char *at, const char *stops) {
  return (struct span){at, strcspn(at, stops)};
}

static bool parse_choice(struct span s, const char *choices, size_t *out) {
  for (size_t i = 0; *choices != 0; i++) {
    struct span choice = next_span(choices, "|");
    if (choice.length == s.length && memcmp(choice.at, s.at, s.length) == 0) {
      *out = i;
      return true;
    }
    choices += choice.length + (choices[choice.length] == '|');
  }
  return false;
}

static bool parse_number(struct span s, bool suffixes, size_t *out) {
  static const char letters[] = "kmgt";
  size_t value = 0, i = 0;
  for (; i < s.length && s.at[i] >= '0' && s.at[i] <= '9'; i++)
    if (__builtin_mul_overflow(value, 10, &value) ||
        __builtin_add_overflow(value, (size_t)(s.at[i] - '0'), &value))
      return false;
  if (i == 0) return false;
  if (i + 1 == s.length && suffixes) {
    const char *letter = strchr(letters, s.at[i] | 0x20);
    if (letter == NULL || *letter == 0) return false;
    for (const char *l = letters; l <= letter; l++)
      if (__builtin_mul_overflow(value, 1024, &value)) return false;
    i++;
  }
  *out = value;
  return i == s.length;
}

static size_t describe_bounds(const struct option *o, char *out, size_t size) {
  if (o->kind == KIND_CHOICE) return sys_format(out, size, "%s", o->choices);
  return sys_format(out, size, "a number from %zu to %zu%s", o->min, o->max,
                    o->kind == KIND_SIZE ? " (suffixes K, M, G, T)" : "");
}

static void complain_value(const struct option *o, struct span value,
                           void (*complain)(const char *)) {
  char line[320], bounds[128], given[64], kept[32];
  size_t n = size_min(value.length, sizeof given - 1);
  memcpy(given, value.at, n);
  given[n] = 0;
  describe_bounds(o, bounds, sizeof bounds);
  option_value((unsigned)(o - table), kept, sizeof kept);
  sys_format(line, sizeof line, "quire: QUIRE_CONF: %s:%s is not possible: want %s; keeping %s\n",
             o->name, given, bounds, kept);
  complain(line);
}

static void complain_name(struct span name, void (*complain)(const char *)) {
  char line[512], given[64], names[320];
  size_t n = size_min(name.length, sizeof given - 1), at = 0;
  memcpy(given, name.at, n);
  given[n] = 0;
  for (unsigned i = 0; i < array_size(table); i++)
    at += sys_format(names + at, sizeof names - at, "%s%s", i > 0 ? ", " : "", table[i].name);
  sys_format(line, sizeof line, "quire: QUIRE_CONF: no option \"%s\"; there are %s\n", given,
             names);
  complain(line);
}

static void parse_entry(struct span name, struct span value, void (*complain)(const char *)) {
  for (unsigned i = 0; i < array_size(table); i++) {
    const struct option *o = &table[i];
    size_t parsed = 0;
    if (!span_is(name, o->name)) continue;
    bool ok = o->kind == KIND_CHOICE ? parse_choice(value, o->choices, &parsed)
                                     : parse_number(value, o->kind == KIND_SIZE, &parsed) &&
                                           parsed >= o->min && parsed <= o->max;
    if (ok)
      *o->value = parsed;
    else
      complain_value(o, value, complain);
    return;
  }
  complain_name(name, complain);
}

void options_parse(const char *conf, void (*complain)(const char *line)) {
  while (conf != NULL && *conf != 0) {
    struct span entry = next_span(conf, ","), name = next_span(conf, ":,");
    struct span value = {"", 0};
    if (name.length < entry.length)
      value = (struct span){conf + name.length + 1, entry.length - name.length - 1};
    if (entry.length > 0) parse_entry(name, value, complain);
    conf += entry.length + (conf[entry.length] == ',');
  }
}

bool option_text(unsigned index, struct option_text *out) {
  static const char *const kinds[] = {"size", "number", "choice"};
  if (index >= array_size(table)) return false;
  const struct option *o = &table[index];
  *out = (struct option_text){o->name,     kinds[o->kind], o->choices, o->text,
                              o->fallback, o->min,         o->max};
  return true;
}

const char *option_value(unsigned index, char *buffer, size_t size) {
  const struct option *o = &table[index];
  const char *at = o->choices;
  if (o->kind != KIND_CHOICE) {
    sys_format(buffer, size, "%zu", *o->value);
    return buffer;
  }
  for (size_t i = 0; i < *o->value; i++) at += strcspn(at, "|") + 1;
  size_t n = size_min(strcspn(at, "|"), size - 1);
  memcpy(buffer, at, n);
  buffer[n] = 0;
  return buffer;
}
