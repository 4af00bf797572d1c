/* The parser of QUIRE_CONF: every kind of good and of wrong entry, and the line that each wrong one
 * gets. */
#include "alloc/options.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/check.h"

static char said[4096];
static unsigned lines;

static void complain(const char *line) {
  strncat(said, line, sizeof said - strlen(said) - 1);
  lines++;
}

static size_t index_of(const char *name) {
  struct option_text o;
  for (unsigned i = 0; option_text(i, &o); i++)
    if (strcmp(o.name, name) == 0) return i;
  return (size_t)-1;
}

/* Puts the defaults back, which are in the table, and parses. */
static void parse(const char *conf) {
  struct quire_options defaults = {
#define DEFAULT(name, value, ...) .name = (value),
      QUIRE_OPTIONS(DEFAULT, DEFAULT, DEFAULT)};
  options = defaults;
  said[0] = 0;
  lines = 0;
  options_parse(conf, complain);
}

static void nothing_is_no_entry(void) {
  static const char *const confs[] = {NULL, "", ",", ",,,"};
  for (unsigned i = 0; i < array_size(confs); i++) {
    parse(confs[i]);
    CU_ASSERT_EQUAL(lines, 0);
    CU_ASSERT_EQUAL(options.huge_threshold, 16 << 20);
    CU_ASSERT_EQUAL(options.decay_ms, 500);
  }
}

static void sizes(void) {
  static const struct {
    const char *conf;
    size_t value;
  } good[] = {
      {"huge_threshold:0", 0},
      {"huge_threshold:1", 1},
      {"huge_threshold:00012", 12},
      {"huge_threshold:7k", 7 << 10},
      {"huge_threshold:7K", 7 << 10},
      {"huge_threshold:3M", 3 << 20},
      {"huge_threshold:2g", (size_t)2 << 30},
      {"huge_threshold:1T", (size_t)1 << 40}, /* the most */
      {"huge_threshold:1099511627776", (size_t)1 << 40},
  };
  for (unsigned i = 0; i < array_size(good); i++) {
    parse(good[i].conf);
    CU_ASSERT_EQUAL(lines, 0);
    CU_ASSERT_EQUAL(options.huge_threshold, good[i].value);
  }
}

static void wrong_sizes(void) {
  static const char *const wrong[] = {"",
                                      "M",
                                      "-1",
                                      "+1",
                                      "1 ",
                                      " 1",
                                      "1MB",
                                      "1KK",
                                      "0x10",
                                      "1.5",
                                      "1b",
                                      "1\n",
                                      "2T",
                                      "ten",
                                      "1@",
                                      "1`",
                                      "1099511627777",
                                      "18446744073709551616",
                                      "99999999999999999999T",
                                      "16777216T"};
  char conf[128], line[320];
  for (unsigned i = 0; i < array_size(wrong); i++) {
    snprintf(conf, sizeof conf, "huge_threshold:%s", wrong[i]);
    snprintf(line, sizeof line,
             "quire: QUIRE_CONF: huge_threshold:%s is not possible: want a number from 0 to "
             "1099511627776 (suffixes K, M, G, T); keeping 16777216\n",
             wrong[i]);
    parse(conf);
    CU_ASSERT_EQUAL(lines, 1);
    CU_ASSERT_STRING_EQUAL(said, line);
    CU_ASSERT_EQUAL(options.huge_threshold, 16 << 20);
  }
}

static void numbers(void) {
  parse("decay_ms:0");
  CU_ASSERT_EQUAL(options.decay_ms, 0);
  parse("decay_ms:3600000");
  CU_ASSERT_EQUAL(options.decay_ms, 3600000);
  CU_ASSERT_EQUAL(lines, 0);
  parse("decay_ms:3600001");
  CU_ASSERT_STRING_EQUAL(said, "quire: QUIRE_CONF: decay_ms:3600001 is not possible: want a number "
                               "from 0 to 3600000; keeping 500\n");
  /* A number is no size: it has no suffixes. */
  parse("decay_ms:1k");
  CU_ASSERT_STRING_EQUAL(said,
                         "quire: QUIRE_CONF: decay_ms:1k is not possible: want a number from 0 "
                         "to 3600000; keeping 500\n");
  CU_ASSERT_EQUAL(options.decay_ms, 500);
}

static void choices(void) {
  static const char *const names[] = {"auto", "always", "never", "hugetlb"};
  char conf[64];
  for (unsigned i = 0; i < array_size(names); i++) {
    snprintf(conf, sizeof conf, "huge:%s", names[i]);
    parse(conf);
    CU_ASSERT_EQUAL(lines, 0);
    CU_ASSERT_EQUAL(options.huge, i);
  }
  parse("background:off");
  CU_ASSERT_EQUAL(options.background, CHOICE_BACKGROUND_OFF);
}

static void wrong_choices(void) {
  static const char *const wrong[] = {"", "Never", "neve", "nevers", "2", "auto|never", "|"};
  char conf[64], line[256];
  for (unsigned i = 0; i < array_size(wrong); i++) {
    snprintf(conf, sizeof conf, "huge:%s", wrong[i]);
    snprintf(line, sizeof line,
             "quire: QUIRE_CONF: huge:%s is not possible: want auto|always|never|hugetlb; keeping "
             "auto\n",
             wrong[i]);
    parse(conf);
    CU_ASSERT_STRING_EQUAL(said, line);
    CU_ASSERT_EQUAL(options.huge, 0);
  }
}

static void unknown_names(void) {
  static const char *const wrong[] = {"hug", "huges", "", "Huge", "huge threshold"};
  char conf[64], line[512], names[320] = "";
  struct option_text o;
  for (unsigned i = 0; option_text(i, &o); i++) {
    strcat(names, i > 0 ? ", " : "");
    strcat(names, o.name);
  }
  for (unsigned i = 0; i < array_size(wrong); i++) {
    snprintf(conf, sizeof conf, "%s:never", wrong[i]);
    snprintf(line, sizeof line, "quire: QUIRE_CONF: no option \"%s\"; there are %s\n", wrong[i],
             names);
    parse(conf);
    CU_ASSERT_EQUAL(lines, 1);
    CU_ASSERT_STRING_EQUAL(said, line);
  }
}

static void missing_colon(void) {
  parse("huge");
  CU_ASSERT_STRING_EQUAL(said, "quire: QUIRE_CONF: huge: is not possible: want "
                               "auto|always|never|hugetlb; keeping auto\n");
  /* The colon of the next entry is not this one's. */
  parse("stats,huge:never");
  CU_ASSERT_STRING_EQUAL(said,
                         "quire: QUIRE_CONF: stats: is not possible: want off|on; keeping off\n");
  CU_ASSERT_EQUAL(options.huge, 2);
}

static void many_entries(void) {
  parse(",huge:never,,decay_ms:10,cache_thread:1M,");
  CU_ASSERT_EQUAL(lines, 0);
  CU_ASSERT_EQUAL(options.huge, 2);
  CU_ASSERT_EQUAL(options.decay_ms, 10);
  CU_ASSERT_EQUAL(options.cache_thread, 1 << 20);
  /* The last one wins; wrong ones stop neither those before nor those after, and keep what stands.
   */
  parse("decay_ms:10,decay_ms:x,nothing:1,decay_ms:20,decay_ms:-,stats:on");
  CU_ASSERT_EQUAL(lines, 3);
  CU_ASSERT_EQUAL(options.decay_ms, 20);
  CU_ASSERT_EQUAL(options.stats, 1);
  CU_ASSERT_PTR_NOT_NULL(strstr(said,
                                "decay_ms:x is not possible: want a number from 0 to 3600000; "
                                "keeping 10\n"));
  CU_ASSERT_PTR_NOT_NULL(strstr(said, "keeping 20\n"));
  /* A value may hold colons; it is wrong then. */
  parse("decay_ms:1:2");
  CU_ASSERT_PTR_NOT_NULL(strstr(said, "decay_ms:1:2 is not possible"));
}

/* However long an entry is, its line ends with what is kept. */
static void long_entries(void) {
  char conf[2000];
  memset(conf, '9', sizeof conf);
  memcpy(conf, "reserve:", 8);
  conf[sizeof conf - 1] = 0;
  parse(conf);
  CU_ASSERT_EQUAL(lines, 1);
  CU_ASSERT(strlen(said) < 320);
  CU_ASSERT_PTR_NOT_NULL(strstr(said, "keeping 0\n"));
  memset(conf, 'x', sizeof conf - 1);
  parse(conf);
  CU_ASSERT_EQUAL(lines, 1);
  CU_ASSERT(strlen(said) < 512);
  CU_ASSERT_EQUAL(said[strlen(said) - 1], '\n');
}

static void the_table(void) {
  struct option_text o;
  char value[32], number[32];
  unsigned n = 0;
  parse(NULL);
  for (; option_text(n, &o); n++) {
    CU_ASSERT(strlen(o.name) > 0 && strlen(o.text) > 0);
    CU_ASSERT_EQUAL(index_of(o.name), n); /* no name twice */
    CU_ASSERT_EQUAL(o.text[strlen(o.text) - 1], '.');
    if (strcmp(o.kind, "choice") == 0) {
      CU_ASSERT_PTR_NOT_NULL(strchr(o.choices, '|'));
      continue;
    }
    CU_ASSERT(o.min <= o.value && o.value <= o.max);
    snprintf(number, sizeof number, "%zu", o.value);
    CU_ASSERT_STRING_EQUAL(option_value(n, value, sizeof value), number);
  }
  CU_ASSERT_EQUAL(n, sizeof(struct quire_options) / sizeof(size_t));
}

static void values_as_text(void) {
  char value[32];
  parse("huge:hugetlb,decay_ms:77,reserve:1G");
  CU_ASSERT_STRING_EQUAL(option_value((unsigned)index_of("huge"), value, sizeof value), "hugetlb");
  CU_ASSERT_STRING_EQUAL(option_value((unsigned)index_of("decay_ms"), value, sizeof value), "77");
  CU_ASSERT_STRING_EQUAL(option_value((unsigned)index_of("reserve"), value, sizeof value),
                         "1073741824");
  CU_ASSERT_STRING_EQUAL(option_value((unsigned)index_of("stats"), value, sizeof value), "off");
}

static const struct unit_test tests[] = {
    {"nothing_is_no_entry", nothing_is_no_entry},
    {"sizes", sizes},
    {"wrong_sizes", wrong_sizes},
    {"numbers", numbers},
    {"choices", choices},
    {"wrong_choices", wrong_choices},
    {"unknown_names", unknown_names},
    {"missing_colon", missing_colon},
    {"many_entries", many_entries},
    {"long_entries", long_entries},
    {"the_table", the_table},
    {"values_as_text", values_as_text},
    {0},
};

int main(void) { return unit_main("options", tests); }
