/* quire record: snapshots over time, in a file. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/quire/cli.h"
#include "tools/quire/recording.h"

enum { OPTION_EVERY = 1000, OPTION_FOR, OPTION_JSON };

static volatile sig_atomic_t stopped;

static void stop(int signal) {
  (void)signal;
  stopped = 1;
}

struct job {
  const struct command *command;
  struct process process;
  const char *path;
  uint64_t every_ms, for_ms, most; /* 0: without end */
  struct recorder recorder;
  uint64_t live; /* bytes, of the last snapshot */
  uint64_t began_ms;
  bool json, ended; /* the process has */
};

static uint64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* A signal ends the wait. */
static void wait_until(uint64_t ms) {
  struct timespec t = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
  while (!stopped && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) continue;
}

static void progress(const struct job *j, bool last) {
  char bytes[24], live[24];
  if (!last && !isatty(STDERR_FILENO)) return;
  fprintf(stderr, "%s%u snapshot%s, %.1f s, %s written, %s live%s",
          isatty(STDERR_FILENO) ? "\r\033[K" : "", j->recorder.count,
          j->recorder.count == 1 ? "" : "s", (double)(now_ms() - j->began_ms) / 1000,
          cli_bytes(j->recorder.written, bytes), cli_bytes(j->live, live), last ? "" : " ");
  if (last) fprintf(stderr, ": %s\n", j->path);
}

static bool finished(const struct job *j) {
  return stopped || (j->most != 0 && j->recorder.count >= j->most) ||
         (j->for_ms != 0 && now_ms() - j->began_ms >= j->for_ms);
}

static int take(struct job *j) {
  struct snapshot snapshot;
  char error[PROCESS_ERROR_MAX];
  int status = (int)process_snapshot(&j->process, &snapshot, error);
  if (status == STATUS_NO_PROCESS && j->recorder.count > 0) {
    stopped = 1;
    j->ended = true;
    fprintf(stderr, "%squire record: the process has ended\n",
            isatty(STDERR_FILENO) ? "\r\033[K" : "");
    return STATUS_OK;
  }
  if (status != STATUS_OK) return cli_fail(j->command, status, "%s", error);
  if (!recorder_add(&j->recorder, &snapshot))
    status = cli_fail(j->command, STATUS_FAILED, "%s: %s", j->path, strerror(errno));
  j->live = snapshot.numbers.stats.live;
  snapshot_free(&snapshot);
  return status;
}

static int record(struct job *j) {
  uint64_t next = j->began_ms = now_ms();
  int status = STATUS_OK;
  while (status == STATUS_OK && (j->recorder.count == 0 || !finished(j))) {
    status = take(j);
    if (status != STATUS_OK || finished(j)) break;
    progress(j, false);
    /* What was missed while a snapshot took long is left out, not made up for. */
    do next += j->every_ms;
    while (next <= now_ms());
    if (j->for_ms != 0 && next - j->began_ms > j->for_ms) break;
    wait_until(next);
  }
  if (j->recorder.count > 0 && !j->json) progress(j, true);
  return status;
}

static json_t *summary(const struct job *j) {
  json_t *o = json_object();
  (void)json_object_set_new(o, "file", cli_json_text(j->path));
  (void)json_object_set_new(o, "pid", json_integer(j->process.pid));
  (void)json_object_set_new(o, "snapshots", json_integer(j->recorder.count));
  (void)json_object_set_new(o, "seconds", json_real((double)(now_ms() - j->began_ms) / 1000));
  (void)json_object_set_new(o, "bytes", json_integer((json_int_t)j->recorder.written));
  (void)json_object_set_new(o, "live", json_integer((json_int_t)j->live));
  (void)json_object_set_new(o, "ended", json_boolean(j->ended));
  return o;
}

static int record_to(struct job *j, FILE *file) {
  struct snapshot_process who;
  process_identify(j->process.pid, &who);
  if (!recorder_open(&j->recorder, file, &who))
    return cli_fail(j->command, STATUS_FAILED, "%s: %s", j->path, strerror(errno));
  int status = record(j);
  if (j->json && isatty(STDERR_FILENO)) fputs("\r\033[K", stderr);
  if (status == STATUS_OK && j->json) status = cli_print_json(j->command, summary(j));
  recorder_close(&j->recorder);
  return status;
}

static uint64_t number(const struct command *command, const char *text, const char *what,
                       uint64_t most) {
  char *end;
  unsigned long long n = strtoull(text, &end, 10);
  if (end == text || *end != 0 || *text == '-' || n == 0 || n > most)
    cli_usage(command, "'%s' is not a number of %s (1 to %llu)", text, what,
              (unsigned long long)most);
  return n;
}

static void read_options(struct job *j, int argc, char **argv) {
  static const struct option longs[] = {{"output", required_argument, NULL, 'o'},
                                        {"every", required_argument, NULL, OPTION_EVERY},
                                        {"for", required_argument, NULL, OPTION_FOR},
                                        {"count", required_argument, NULL, 'n'},
                                        {"json", no_argument, NULL, OPTION_JSON},
                                        {0}};
  int option;
  while ((option = cli_option(j->command, argc, argv, ":o:n:", longs)) != -1) {
    if (option == 'o') j->path = optarg;
    if (option == OPTION_JSON) j->json = true;
    if (option == 'n') j->most = number(j->command, optarg, "snapshots", UINT32_MAX);
    if (option == OPTION_EVERY) j->every_ms = number(j->command, optarg, "milliseconds", 86400000);
    if (option == OPTION_FOR) j->for_ms = cli_seconds(j->command, optarg);
  }
}

static int run(const struct command *command, int argc, char **argv) {
  static struct job job;
  static char name[32];
  struct sigaction action = {.sa_handler = stop};
  job.command = command;
  job.every_ms = 500;
  read_options(&job, argc, argv);
  pid_t pid = cli_pid(command, argc, argv);
  int status = cli_open(command, pid, &job.process);
  if (status != STATUS_OK) return status;
  snprintf(name, sizeof name, "quire-%d.qrec", (int)pid);
  if (job.path == NULL) job.path = name;
  FILE *file = fopen(job.path, "wb");
  if (file == NULL) return cli_fail(command, STATUS_FAILED, "%s: %s", job.path, strerror(errno));
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGHUP, &action, NULL);
  status = record_to(&job, file);
  if (fclose(file) != 0 && status == STATUS_OK)
    status = cli_fail(command, STATUS_FAILED, "%s: %s", job.path, strerror(errno));
  return status;
}

const struct command command_record = {
    .name = "record",
    .summary = "snapshots of a heap over time, in a file that map and stat replay",
    .usage = "[-o FILE] [--every MS] [--for SECONDS] [-n N] [--json] PID",
    .help =
        "Takes a snapshot of a process's heap again and again, and writes what has changed into\n"
        "one compact file, until Ctrl-C, until the process ends, or as long as said. A recording\n"
        "that was cut off, by whatever, is good up to its last whole snapshot.\n\n"
        "  -o, --output=FILE   write there, not to quire-PID.qrec\n"
        "      --every=MS      a snapshot every so many milliseconds, 500 otherwise\n"
        "      --for=SECONDS   end after this time\n"
        "  -n, --count=N       end after N snapshots\n"
        "      --json          say what was written as a JSON object, when it is over\n"
        "      --help          this text\n\n"
        "examples:\n"
        "  quire record --every 100 --for 30 -o redis.qrec $(pidof redis-server)\n"
        "  quire map redis.qrec                   its last moment\n"
        "  quire map --at 2.5 redis.qrec          how it was 2.5 seconds after the first\n"
        "  quire map -o redis.html redis.qrec     a page that plays it\n"
        "  quire record -n 1 -o before.qrec 1234  one snapshot, to compare with later\n",
    .status = "0, 1 it could not be written",
    .statuses = CLI_STATUS_PROCESS,
    .run = run,
};
