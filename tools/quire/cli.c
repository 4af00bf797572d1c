#include "tools/quire/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- options ---- */

const char *cli_status_text(unsigned status) {
  static const char *const texts[] = {
      [STATUS_OK] = "all is well",
      [STATUS_FAILED] = "it could not be done",
      [STATUS_USAGE] = "wrong usage",
      [STATUS_NO_PROCESS] = "no such process (any more)",
      [STATUS_NOT_QUIRE] = "it doesn't run quire",
      [STATUS_DENIED] = "not permitted",
      [STATUS_VERSION] = "another version of quire",
  };
  return status < sizeof texts / sizeof texts[0] ? texts[status] : NULL;
}

static void help_status(const struct command *command, FILE *out) {
  static const unsigned last[] = {STATUS_FAILED, STATUS_USAGE, STATUS_VERSION};
  char text[512];
  int n = snprintf(text, sizeof text, "exit status: %s", command->status);
  for (unsigned s = STATUS_USAGE; s <= last[command->statuses]; s++)
    n += snprintf(text + n, sizeof text - (size_t)n, ", %u %s", s, cli_status_text(s));
  cli_wrap(out, 0, 88, text);
}

void cli_help(const struct command *command, FILE *out) {
  fprintf(out, "usage: quire %s %s\n\n%s\n", command->name, command->usage, command->help);
  help_status(command, out);
  if (command->more_help != NULL) command->more_help(out);
}

_Noreturn void cli_usage(const struct command *command, const char *format, ...) {
  va_list args;
  fprintf(stderr, "quire %s: ", command->name);
  va_start(args, format);
  vfprintf(stderr, format, args);
  va_end(args);
  fprintf(stderr, "\nusage: quire %s %s\nTry 'quire %s --help'.\n", command->name, command->usage,
          command->name);
  exit(STATUS_USAGE);
}

enum { LONGS_MAX = 64, OPTION_HELP = 0x10000 };

int cli_option(const struct command *command, int argc, char **argv, const char *shorts,
               const struct option *longs) {
  struct option all[LONGS_MAX];
  unsigned n = 0;
  for (; longs[n].name != NULL && n < LONGS_MAX - 2; n++) all[n] = longs[n];
  all[n++] = (struct option){"help", no_argument, NULL, OPTION_HELP};
  all[n] = (struct option){0};
  opterr = 0;
  int option = getopt_long(argc, argv, shorts, all, NULL);
  if (option == OPTION_HELP) {
    cli_help(command, stdout);
    exit(cli_finish(command, STATUS_OK));
  }
  if (option == ':') cli_usage(command, "%s needs a value", argv[optind - 1]);
  if (option == '?') {
    if (optopt > 0 && optopt < 256) cli_usage(command, "there is no option -%c", optopt);
    cli_usage(command, "what is %s?", argv[optind - 1]);
  }
  return option;
}

int cli_fail(const struct command *command, int status, const char *format, ...) {
  va_list args;
  fflush(stdout);
  fprintf(stderr, "quire %s: ", command->name);
  va_start(args, format);
  vfprintf(stderr, format, args);
  va_end(args);
  fputc('\n', stderr);
  return status;
}

pid_t cli_number(const struct command *command, const char *text) {
  char *end;
  errno = 0;
  long pid = strtol(text, &end, 10);
  if (errno != 0 || end == text || *end != 0 || pid <= 0 || pid > INT32_MAX)
    cli_usage(command, "'%s' is not the number of a process", text);
  return (pid_t)pid;
}

bool cli_is_process(const struct command *command, const char *source) {
  if (*source != 0 && source[strspn(source, "0123456789")] == 0) return true;
  /* What looks like a file's name is told that there is none by who opens it. */
  if (strpbrk(source, "./") == NULL && access(source, F_OK) != 0 && errno == ENOENT)
    cli_usage(command, "'%s' is neither the number of a process nor a recording", source);
  return false;
}

pid_t cli_pid(const struct command *command, int argc, char **argv) {
  if (optind >= argc) cli_usage(command, "of which process?");
  if (optind + 1 < argc) cli_usage(command, "one process at a time");
  return cli_number(command, argv[optind]);
}

int cli_open(const struct command *command, pid_t pid, struct process *out) {
  char error[PROCESS_ERROR_MAX];
  enum status status = process_open(out, pid, error);
  return status == STATUS_OK ? STATUS_OK : cli_fail(command, (int)status, "%s", error);
}

unsigned cli_seconds(const struct command *command, const char *text) {
  enum { LEAST_MS = 100, MOST_S = 86400 };
  char *end;
  double seconds = strtod(text, &end);
  if (end == text || *end != 0 || !(seconds > 0) || seconds > MOST_S)
    cli_usage(command, "'%s' is not a number of seconds (up to %d)", text, MOST_S);
  return seconds * 1000 < LEAST_MS ? LEAST_MS : (unsigned)(seconds * 1000);
}

int cli_finish(const struct command *command, int status) {
  if (fflush(stdout) == 0 && !ferror(stdout)) return status;
  return cli_fail(command, STATUS_FAILED, "can't write all of it: %s", strerror(errno));
}

/* ---- for programs ---- */

json_t *cli_json_text(const char *text) {
  json_t *s = json_string(text);
  char *plain;
  if (s != NULL || (plain = strdup(text)) == NULL) return s;
  for (char *c = plain; *c != 0; c++)
    if ((unsigned char)*c >= 128) *c = '?';
  s = json_string(plain);
  free(plain);
  return s;
}

int cli_print_json(const struct command *command, json_t *what) {
  if (what == NULL) return cli_fail(command, STATUS_FAILED, "no memory for it");
  int failed = json_dumpf(what, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
  json_decref(what);
  putchar('\n');
  return cli_finish(command, failed ? STATUS_FAILED : STATUS_OK);
}

/* ---- for people ---- */

const char *cli_bytes(uint64_t bytes, char out[24]) {
  static const char units[] = "KMGTPE";
  double value = (double)bytes;
  unsigned u = 0;
  if (bytes < 1024) {
    snprintf(out, 24, "%u B", (unsigned)bytes);
    return out;
  }
  for (value /= 1024; value >= 1023.95 && u + 2 < sizeof units; u++) value /= 1024;
  snprintf(out, 24, "%.1f %ciB", value, units[u]);
  return out;
}

void cli_wrap(FILE *out, unsigned indent, unsigned width, const char *text) {
  size_t column = 0;
  while (*text != 0) {
    size_t n = strcspn(text, " ");
    if (column == 0 || column + 1 + n > width) {
      fprintf(out, "%s%*s", column == 0 ? "" : "\n", (int)indent, "");
      column = indent;
    } else {
      fputc(' ', out);
      column++;
    }
    fprintf(out, "%.*s", (int)n, text);
    column += n;
    text += n + strspn(text + n, " ");
  }
  fputc('\n', out);
}

double cli_share(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : 100.0 * (double)part / (double)whole;
}

bool cli_may_colour(FILE *stream) {
  const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
  if (no != NULL && *no != 0) return false;
  return isatty(fileno(stream)) && term != NULL && strcmp(term, "dumb") != 0;
}

const char *cli_style(FILE *stream, enum cli_style style) {
  static const char *const codes[] = {"\033[0m",  "\033[1m",  "\033[2m",
                                      "\033[32m", "\033[33m", "\033[31m"};
  return cli_may_colour(stream) ? codes[style] : "";
}
