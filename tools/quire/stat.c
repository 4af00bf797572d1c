/* quire stat: one page of numbers. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/quire/cli.h"
#include "tools/quire/recording.h"
#include "tools/quire/report.h"

enum { OPTION_JSON = 1000, OPTION_PROMETHEUS, OPTION_WATCH, OPTION_COUNT, OPTION_AT };

struct choices {
  int format; /* 'text', OPTION_JSON or OPTION_PROMETHEUS */
  unsigned watch_ms;
  unsigned long count; /* of pages; 0: without end */
  double at;           /* of a recording: seconds; negative: its end */
};

static int print(const struct command *command, const struct report *r, int format) {
  if (format == OPTION_PROMETHEUS) {
    report_metrics(r, 1, stdout);
  } else if (format == OPTION_JSON) {
    json_t *o = report_json(r);
    if (o == NULL || json_dumpf(o, stdout, JSON_INDENT(2)) != 0)
      return cli_fail(command, STATUS_FAILED, "no memory for it");
    putchar('\n');
    json_decref(o);
  } else {
    report_text(r, stdout);
  }
  return cli_finish(command, STATUS_OK);
}

static void pause_for(unsigned ms) {
  struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
  nanosleep(&t, NULL);
}

/* Home, and each line to its end: what is on the screen changes in place. */
static void begin_page(const struct choices *c, bool first) {
  if (c->watch_ms == 0 || c->format != 0) return;
  if (isatty(STDOUT_FILENO))
    fputs("\033[H\033[2J", stdout);
  else if (!first)
    putchar('\n');
}

static int watch(const struct command *command, pid_t pid, const struct choices *c) {
  struct process process;
  char error[PROCESS_ERROR_MAX];
  static struct report report;
  int status = cli_open(command, pid, &process);
  for (unsigned long i = 0; status == STATUS_OK; i++) {
    status = (int)report_read(&process, true, &report, error);
    if (status != STATUS_OK) return cli_fail(command, status, "%s", error);
    begin_page(c, i == 0);
    status = print(command, &report, c->format);
    if (c->watch_ms == 0 || (c->count != 0 && i + 1 >= c->count)) break;
    if (status == STATUS_OK) pause_for(c->watch_ms);
  }
  return status;
}

/* Of a recording: as it was then, but for what only the kernel knows. */
static int replay(const struct command *command, const char *path, const struct choices *c) {
  static struct report report;
  struct recording recording;
  struct snapshot snapshot;
  char error[RECORDING_ERROR_MAX];
  if (c->watch_ms != 0) cli_usage(command, "--watch is for processes");
  if (!recording_open(&recording, path, error))
    return cli_fail(command, STATUS_FAILED, "%s", error);
  if (recording_damage(&recording, path, error)) fprintf(stderr, "quire stat: %s\n", error);
  uint32_t index = c->at < 0 ? recording.count - 1 : recording_find(&recording, c->at);
  bool ok = recording_read(&recording, index, &snapshot, error);
  recording_close(&recording);
  if (!ok) return cli_fail(command, STATUS_FAILED, "%s", error);
  report_replay(&snapshot, &report);
  snapshot_free(&snapshot);
  return print(command, &report, c->format);
}

static double read_at(const struct command *command, const char *text) {
  char *end;
  double at = strtod(text, &end);
  if (end == text || *end != 0 || !(at >= 0))
    cli_usage(command, "'%s' is not a number of seconds", text);
  return at;
}

static unsigned long read_count(const struct command *command, const char *text) {
  char *end;
  unsigned long n = strtoul(text, &end, 10);
  if (end == text || *end != 0 || n == 0 || *text == '-')
    cli_usage(command, "'%s' is not a number of pages", text);
  return n;
}

static int run(const struct command *command, int argc, char **argv) {
  static const struct option longs[] = {{"json", no_argument, NULL, OPTION_JSON},
                                        {"prometheus", no_argument, NULL, OPTION_PROMETHEUS},
                                        {"watch", optional_argument, NULL, OPTION_WATCH},
                                        {"count", required_argument, NULL, OPTION_COUNT},
                                        {"at", required_argument, NULL, OPTION_AT},
                                        {0}};
  struct choices c = {.at = -1};
  int option;
  while ((option = cli_option(command, argc, argv, ":", longs)) != -1) {
    if (option == OPTION_WATCH)
      c.watch_ms = optarg == NULL ? 2000 : cli_seconds(command, optarg);
    else if (option == OPTION_COUNT)
      c.count = read_count(command, optarg);
    else if (option == OPTION_AT)
      c.at = read_at(command, optarg);
    else if (c.format != 0 && c.format != option)
      cli_usage(command, "--json or --prometheus, not both");
    else
      c.format = option;
  }
  if (optind + 1 == argc && !cli_is_process(command, argv[optind]))
    return replay(command, argv[optind], &c);
  if (c.at >= 0) cli_usage(command, "--at is for recordings");
  return watch(command, cli_pid(command, argc, argv), &c);
}

const struct command command_stat = {
    .name = "stat",
    .summary = "one page of numbers of a process's heap",
    .usage = "[--watch[=SECONDS]] [--json | --prometheus] PID | [--at SECONDS] RECORDING",
    .help =
        "Prints what a heap is made of: live bytes, overhead by cause, what the kernel counts, "
        "how\n"
        "much of it is on hugepages, and what compaction has gained, costs, and was refused. Its\n"
        "heap is what live bytes and overhead cost; PSS is what the kernel counts for it, and "
        "less\n"
        "where the program has not touched yet what it allocated.\n\n"
        "      --watch[=SECONDS]  again and again, every 2 seconds or as said\n"
        "      --count=N          with --watch: N pages, then end\n"
        "      --at=SECONDS       of a recording (quire record): this long after its beginning, "
        "not\n"
        "                         its end\n"
        "      --json             as a JSON object\n"
        "      --prometheus       in Prometheus' exposition format\n"
        "      --help             this text\n\n"
        "examples:\n"
        "  quire stat 1234\n"
        "  quire stat --watch=1 $(pidof redis-server)\n"
        "  quire stat --json 1234 | jq .overhead\n",
    .status = "0, 1 it could not be read or printed",
    .statuses = CLI_STATUS_PROCESS,
    .run = run,
};
