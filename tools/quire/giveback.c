/* quire purge and quire compact: ask, wait, say what was gained. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/quire/cli.h"
#include "tools/quire/mailbox.h"
#include "tools/quire/report.h"

enum { OPTION_JSON = 1000, OPTION_TIMEOUT, FRAME = 4096, WAIT_MS = 200, TIMEOUT_MS = 60000 };

struct outcome {
  struct report before, after;
  uint64_t gained, took_ms;
};

static uint64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- what came of it ---- */

static void change(FILE *out, const char *label, uint64_t before, uint64_t after) {
  char a[24], b[24], c[24];
  bool less = after < before;
  fprintf(out, "  %-22s %12s -> %12s  %s%s%s%s\n", label, cli_bytes(before, a), cli_bytes(after, b),
          cli_style(out, less ? CLI_GOOD : CLI_DIM), less ? "-" : "+",
          cli_bytes(less ? before - after : after - before, c), cli_style(out, CLI_PLAIN));
}

/* The process counts the pass that it was asked for; one that was under way before has its part in
 * what the kernel sees. But what the program allocates meanwhile hides some of that: so the larger.
 */
static uint64_t gained(const struct outcome *o) {
  uint64_t before = o->before.kernel.heap_pss, after = o->after.kernel.heap_pss;
  if (!o->before.have_kernel || !o->after.have_kernel || before < after) return o->gained;
  return before - after > o->gained ? before - after : o->gained;
}

static void print_text(const struct command *command, const struct outcome *o, FILE *out) {
  const struct report *a = &o->before, *b = &o->after;
  char bytes[24];
  fprintf(out, "%s (process %llu): %s gained by %s in %.2f s\n", b->process.comm,
          (unsigned long long)b->process.pid, cli_bytes(gained(o), bytes), command->name,
          (double)o->took_ms / 1000);
  if (a->have_kernel && b->have_kernel) {
    change(out, "heap, PSS", a->kernel.heap_pss, b->kernel.heap_pss);
    change(out, "whole process, PSS", a->kernel.pss, b->kernel.pss);
  }
  change(out, "live", a->numbers.stats.live, b->numbers.stats.live);
  change(out, "heap by quire's count", a->heap, b->heap);
  change(out, "thread caches", a->cached + a->transfer, b->cached + b->transfer);
  change(out, "freed, not given back", a->dirty, b->dirty);
  change(out, "free slots in slabs", a->slots + a->tails, b->slots + b->tails);
  fprintf(out, "  meshing %s, %llu frames on hosts, %llu mappings\n",
          report_mesh_text(b->numbers.stats.mesh_state),
          (unsigned long long)b->numbers.stats.guests,
          (unsigned long long)b->numbers.stats.mappings);
}

static int print_json(const struct command *command, const struct outcome *o) {
  json_t *j = json_object();
  (void)json_object_set_new(j, "command", json_string(command->name));
  (void)json_object_set_new(j, "gained", json_integer((json_int_t)gained(o)));
  (void)json_object_set_new(j, "gained_by_its_count", json_integer((json_int_t)o->gained));
  (void)json_object_set_new(j, "took_ms", json_integer((json_int_t)o->took_ms));
  (void)json_object_set_new(j, "before", report_json(&o->before));
  (void)json_object_set_new(j, "after", report_json(&o->after));
  int err = json_dumpf(j, stdout, JSON_INDENT(2));
  putchar('\n');
  json_decref(j);
  return err == 0 ? STATUS_OK : STATUS_FAILED;
}

/* ---- asking ---- */

static int ask(const struct command *command, struct process *p, enum quire_mail what,
               unsigned timeout_ms, struct outcome *o) {
  struct mailbox mailbox;
  char error[PROCESS_ERROR_MAX];
  enum mailbox_answer answer = MAILBOX_NOT_YET;
  enum status status = mailbox_open(&mailbox, p, error);
  if (status != STATUS_OK) return cli_fail(command, (int)status, "%s", error);
  uint64_t began = now_ms();
  uint32_t asked = mailbox_ask(&mailbox, what);
  while (answer == MAILBOX_NOT_YET && now_ms() - began < timeout_ms)
    answer = mailbox_wait(&mailbox, what, asked, WAIT_MS, &o->gained);
  mailbox_close(&mailbox);
  o->took_ms = now_ms() - began;
  if (answer == MAILBOX_GONE)
    return cli_fail(command, STATUS_NO_PROCESS, "process %d ended meanwhile.", (int)p->pid);
  if (answer == MAILBOX_DONE) return STATUS_OK;
  return cli_fail(
      command, STATUS_FAILED,
      "process %d has not answered within %.1f s. It was asked, and may still do it: is "
      "it stopped, or is its background thread at work?",
      (int)p->pid, (double)timeout_ms / 1000);
}

static int run_mail(const struct command *command, int argc, char **argv, enum quire_mail what) {
  static const struct option longs[] = {{"json", no_argument, NULL, OPTION_JSON},
                                        {"timeout", required_argument, NULL, OPTION_TIMEOUT},
                                        {0}};
  static struct outcome outcome;
  struct process process;
  char error[PROCESS_ERROR_MAX];
  unsigned timeout_ms = TIMEOUT_MS;
  bool json = false;
  int option;
  while ((option = cli_option(command, argc, argv, ":", longs)) != -1) {
    if (option == OPTION_JSON)
      json = true;
    else
      timeout_ms = cli_seconds(command, optarg);
  }
  int status = cli_open(command, cli_pid(command, argc, argv), &process);
  if (status != STATUS_OK) return status;
  status = (int)report_read(&process, true, &outcome.before, error);
  if (status != STATUS_OK) return cli_fail(command, status, "%s", error);
  status = ask(command, &process, what, timeout_ms, &outcome);
  if (status != STATUS_OK) return status;
  status = (int)report_read(&process, true, &outcome.after, error);
  if (status != STATUS_OK) return cli_fail(command, status, "%s", error);
  if (json)
    status = print_json(command, &outcome);
  else
    print_text(command, &outcome, stdout);
  return cli_finish(command, status);
}

static int run_purge(const struct command *command, int argc, char **argv) {
  return run_mail(command, argc, argv, QUIRE_MAIL_PURGE);
}

static int run_compact(const struct command *command, int argc, char **argv) {
  return run_mail(command, argc, argv, QUIRE_MAIL_COMPACT);
}

#define OPTIONS_HELP                                                                               \
  "      --timeout=SECONDS  wait for so long (60)\n"                                               \
  "      --json             numbers before and after as a JSON object\n"                           \
  "      --help             this text\n\n"

#define STATUS_OF_ITS_OWN "0 it was done, 1 it could not be (no background thread, no answer)"

const struct command command_purge = {
    .name = "purge",
    .summary = "have a process give free memory back now",
    .usage = "[--timeout=SECONDS] [--json] PID",
    .help = "Asks a process to empty its thread caches and to give back all memory that is free, "
            "waits\n"
            "until it has, and says what was gained. It costs the process page faults when it "
            "needs the\n"
            "memory again. The process's background thread does it; the program is not "
            "stopped.\n\n" OPTIONS_HELP "examples:\n"
            "  quire purge 1234\n"
            "  quire purge --json $(pidof redis-server) | jq .gained\n",
    .status = STATUS_OF_ITS_OWN,
    .statuses = CLI_STATUS_PROCESS,
    .run = run_purge,
};

const struct command command_compact = {
    .name = "compact",
    .summary = "have a process compact its heap now",
    .usage = "[--timeout=SECONDS] [--json] PID",
    .help =
        "Asks a process for a purge and then a whole pass of compaction at full speed, waits "
        "until\n"
        "it is over, and says what the pass has gained: memory inside slabs in which nothing "
        "lives,\n"
        "and sparse frames that share memory now. Where meshing isn't permitted only the former "
        "is\n"
        "given back: see quire doctor. The process's background thread does it; the program goes\n"
        "on, and waits where it touches what is being moved.\n\n" OPTIONS_HELP "examples:\n"
        "  quire compact 1234\n"
        "  quire compact --timeout=300 $(pidof redis-server)\n",
    .status = STATUS_OF_ITS_OWN,
    .statuses = CLI_STATUS_PROCESS,
    .run = run_compact,
};
