/* quire doctor: what this machine and a process permit, what each gap costs, and what closes it. */
#include "tools/quire/doctor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/quire/cli.h"

enum { OPTION_JSON = 1000 };

static const char *const states[] = {"good", "note", "gap"};

static void print_finding(const struct finding *f, FILE *out) {
  static const enum cli_style styles[] = {CLI_GOOD, CLI_WARN, CLI_BAD};
  fprintf(out, "%s%-5s%s %s%s%s: %s\n", cli_style(out, styles[f->state]), states[f->state],
          cli_style(out, CLI_PLAIN), cli_style(out, CLI_BOLD), f->name, cli_style(out, CLI_PLAIN),
          f->found);
  if (f->cost[0] != 0) cli_wrap(out, 6, 92, f->cost);
  for (unsigned i = 0; i < FIXES_MAX && f->fix[i][0] != 0; i++)
    fprintf(out, "        %s %s\n", i == 0 ? "->" : "or", f->fix[i]);
}

static void print_text(const struct patient *p, const struct finding *findings, unsigned n,
                       FILE *out) {
  unsigned gaps = 0;
  for (unsigned i = 0; i < n; i++) gaps += findings[i].state == FINDING_GAP;
  if (p->pid == 0)
    fprintf(out, "a program that user %u starts here", (unsigned)p->uid);
  else
    fprintf(out, "process %d%s%s", (int)p->pid, p->runs_quire ? ", on quire " : ", not on quire",
            p->runs_quire ? p->report.numbers.library : "");
  fprintf(out, ": %u %s\n\n", gaps, gaps == 1 ? "gap" : "gaps");
  for (unsigned i = 0; i < n; i++) print_finding(&findings[i], out);
}

static json_t *finding_json(const struct finding *f) {
  json_t *o = json_object(), *fixes = json_array();
  for (unsigned i = 0; i < FIXES_MAX && f->fix[i][0] != 0; i++)
    (void)json_array_append_new(fixes, json_string(f->fix[i]));
  (void)json_object_set_new(o, "name", json_string(f->name));
  (void)json_object_set_new(o, "state", json_string(states[f->state]));
  (void)json_object_set_new(o, "found", json_string(f->found));
  (void)json_object_set_new(o, "cost", json_string(f->cost));
  (void)json_object_set_new(o, "fixes", fixes);
  return o;
}

static int print_json(const struct patient *p, const struct finding *findings, unsigned n) {
  json_t *o = json_object(), *list = json_array();
  for (unsigned i = 0; i < n; i++) (void)json_array_append_new(list, finding_json(&findings[i]));
  if (p->pid != 0) (void)json_object_set_new(o, "pid", json_integer(p->pid));
  (void)json_object_set_new(o, "uid", json_integer(p->uid));
  if (p->pid != 0) (void)json_object_set_new(o, "runs_quire", json_boolean(p->runs_quire));
  (void)json_object_set_new(o, "findings", list);
  int err = json_dumpf(o, stdout, JSON_INDENT(2));
  putchar('\n');
  json_decref(o);
  return err == 0 ? STATUS_OK : STATUS_FAILED;
}

static int run(const struct command *command, int argc, char **argv) {
  static const struct option longs[] = {{"json", no_argument, NULL, OPTION_JSON}, {0}};
  static struct patient patient;
  static struct finding findings[FINDINGS_MAX];
  bool json = false;
  while (cli_option(command, argc, argv, ":", longs) != -1) json = true;
  pid_t pid = optind < argc ? cli_pid(command, argc, argv) : 0;
  if (!patient_read(&patient, pid)) {
    if (errno == ENOENT || errno == ESRCH)
      return cli_fail(command, STATUS_NO_PROCESS, "there is no process %d.", (int)pid);
    return cli_fail(command, STATUS_DENIED, "process %d: %s", (int)pid, strerror(errno));
  }
  unsigned n = doctor_check(&patient, findings);
  int status = STATUS_OK;
  if (json)
    status = print_json(&patient, findings, n);
  else
    print_text(&patient, findings, n, stdout);
  return cli_finish(command, status);
}

const struct command command_doctor = {
    .name = "doctor",
    .summary = "what this machine permits, and what would permit more",
    .usage = "[--json] [PID]",
    .help =
        "Looks at what the machine permits to a process, or without one to a program that this\n"
        "user starts: kernel, userfaultfd, mappings, hugepages, limits, io_uring, memory "
        "pressure.\n"
        "Of each gap it says what it costs and which command, or which line in a unit file, "
        "closes\n"
        "it; the most valuable first. It changes nothing itself.\n\n"
        "      --json  as a JSON object\n"
        "      --help  this text\n\n"
        "examples:\n"
        "  quire doctor\n"
        "  quire doctor $(pidof redis-server)\n"
        "  quire doctor --json | jq '.findings[] | select(.state == \"gap\") | .fixes[0]'\n",
    .status = "0 (also with gaps), 2 wrong usage, 3 no such process, 5 not permitted",
    .statuses = CLI_STATUS_OWN,
    .run = run,
};
