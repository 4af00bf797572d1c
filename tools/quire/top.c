/* quire top: all processes on quire, live.
 *
 * Nothing here waits for a process: a purge or pass that was asked for is looked at between key
 * presses until it is over. */
#include <locale.h>
#include <ncurses.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/quire/cli.h"
#include "tools/quire/detail.h"
#include "tools/quire/fleet.h"
#include "tools/quire/mailbox.h"
#include "tools/quire/terminal.h"

enum { OPTION_ONCE = 1000, OPTION_JSON, OPTION_SORT, OPTION_DELAY, OPTION_THEME };
enum {
  FRAME = 4096,
  TICK_MS = 100,
  LINES_ABOVE = 3,
  LINES_BELOW = 2,
  ASK_MS = 60000,
  PIDS_MAX = 256
};

struct errand {
  bool under_way;
  struct mailbox mailbox;
  enum quire_mail what;
  uint32_t asked;
  uint64_t since;
  char comm[32];
};

struct top {
  struct fleet fleet;
  enum fleet_order order;
  unsigned delay_ms;
  uint64_t read_at;
  uint64_t selected; /* process number: lines move, it stays */
  unsigned first;    /* line of the table that is shown first */
  bool detail, paused, colours;
  struct detail view; /* while `detail` */
  struct errand errand;
  char message[256];
};

static uint64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- lines ---- */

static const char header[] =
    "    PID COMMAND            LIVE       HEAP OVER        PSS HUGE     MESHED   MAPS";

static void format_line(const struct report *r, char *out, size_t size) {
  char live[24], heap[24], pss[24], meshed[24];
  const struct quire_stats *s = &r->numbers.stats;
  snprintf(out, size, "%7llu %-12.12s %10s %10s %3.0f%% %10s %3.0f%% %10s %6llu  %s",
           (unsigned long long)r->process.pid, r->process.comm, cli_bytes(s->live, live),
           cli_bytes(r->heap, heap), cli_share(r->overhead, r->heap),
           r->have_kernel ? cli_bytes(r->kernel.pss, pss) : "-",
           cli_share(r->kernel.heap_huge, r->kernel.heap_rss), cli_bytes(s->guests * FRAME, meshed),
           (unsigned long long)s->mappings, r->process.cmdline);
}

static void format_totals(const struct top *t, char *out, size_t size) {
  uint64_t live = 0, heap = 0, pss = 0;
  char a[24], b[24], c[24];
  for (unsigned i = 0; i < t->fleet.n; i++) {
    live += t->fleet.reports[i].numbers.stats.live;
    heap += t->fleet.reports[i].heap;
    pss += t->fleet.reports[i].kernel.pss;
  }
  int n = snprintf(out, size, "%u %s, %s live in heaps of %s, PSS %s", t->fleet.n,
                   t->fleet.n == 1 ? "process" : "processes", cli_bytes(live, a),
                   cli_bytes(heap, b), cli_bytes(pss, c));
  if (t->fleet.unreadable > 0 && (size_t)n < size)
    snprintf(out + n, size - (size_t)n, "; %u can't be read", t->fleet.unreadable);
}

/* ---- the selection ---- */

static unsigned selected_line(const struct top *t) {
  for (unsigned i = 0; i < t->fleet.n; i++)
    if (t->fleet.reports[i].process.pid == t->selected) return i;
  return 0;
}

static const struct report *selected_report(const struct top *t) {
  return t->fleet.n == 0 ? NULL : &t->fleet.reports[selected_line(t)];
}

static void select_line(struct top *t, long line) {
  if (t->fleet.n == 0) return;
  if (line < 0) line = 0;
  if (line >= (long)t->fleet.n) line = (long)t->fleet.n - 1;
  t->selected = t->fleet.reports[line].process.pid;
}

static void show_details(struct top *t, bool on) {
  t->detail = on;
  if (on)
    detail_look(&t->view, (pid_t)t->selected);
  else
    detail_close(&t->view);
}

static void read_all(struct top *t) {
  long line = selected_line(t);
  (void)fleet_read(&t->fleet);
  fleet_sort(&t->fleet, t->order);
  t->read_at = now_ms();
  const struct report *r = selected_report(t);
  if (r == NULL || r->process.pid != t->selected) { /* it has ended */
    if (t->detail)
      snprintf(t->message, sizeof t->message, "process %llu has ended",
               (unsigned long long)t->selected);
    show_details(t, false);
    select_line(t, line);
  }
  if (t->detail) detail_look(&t->view, (pid_t)t->selected);
}

/* ---- the screen ---- */

static void put_line(int y, const char *text, attr_t attributes) {
  if (y < 0 || y >= LINES) return;
  attrset(attributes);
  mvaddnstr(y, 0, text, COLS);
  if (attributes & A_REVERSE)
    for (int x = getcurx(stdscr); getcury(stdscr) == y && x < COLS; x++) mvaddch(y, x, ' ');
  attrset(A_NORMAL);
}

static void draw_head(const struct top *t) {
  char text[512], totals[256];
  format_totals(t, totals, sizeof totals);
  snprintf(text, sizeof text, "quire top: %s", totals);
  put_line(0, text, A_BOLD);
  snprintf(text, sizeof text, "sorted by %s, every %.1f s%s", fleet_order_name(t->order),
           (double)t->delay_ms / 1000, t->paused ? ", paused" : "");
  put_line(1, text, A_DIM);
}

static void draw_foot(const struct top *t) {
  put_line(LINES - 2, t->message, t->colours ? COLOR_PAIR(1) : A_BOLD);
  put_line(LINES - 1,
           t->detail
               ? "Esc back  arrows scroll  m map/numbers  P purge  C compact  space pause  q quit"
               : "up/down select  Enter details  s sort  P purge  C compact  space pause  q quit",
           A_DIM);
}

static void draw_table(struct top *t) {
  char text[512];
  unsigned room =
      LINES > LINES_ABOVE + LINES_BELOW ? (unsigned)LINES - LINES_ABOVE - LINES_BELOW : 0;
  unsigned line = selected_line(t);
  put_line(2, header, A_UNDERLINE);
  if (line < t->first) t->first = line;
  if (room > 0 && line >= t->first + room) t->first = line - room + 1;
  if (t->fleet.n <= room) t->first = 0;
  for (unsigned i = 0; i < room && t->first + i < t->fleet.n; i++) {
    const struct report *r = &t->fleet.reports[t->first + i];
    format_line(r, text, sizeof text);
    put_line(LINES_ABOVE + (int)i, text, t->first + i == line ? A_REVERSE : A_NORMAL);
  }
  if (t->fleet.n == 0)
    put_line(LINES_ABOVE, "no process runs quire: start one by 'quire run PROGRAM ...'", A_NORMAL);
}

static void draw(struct top *t) {
  erase();
  draw_head(t);
  const struct report *r = selected_report(t);
  if (t->detail && r != NULL && LINES > LINES_ABOVE + LINES_BELOW)
    detail_draw(&t->view, r, LINES_ABOVE - 1, (unsigned)LINES - LINES_ABOVE - LINES_BELOW + 1);
  else
    draw_table(t);
  draw_foot(t);
  refresh();
}

/* ---- errands ---- */

static const char *errand_name(enum quire_mail what) {
  return what == QUIRE_MAIL_PURGE ? "purge" : "compaction";
}

static void send_errand(struct top *t, enum quire_mail what) {
  const struct report *r = selected_report(t);
  struct process process;
  char error[PROCESS_ERROR_MAX];
  if (r == NULL) return;
  if (t->errand.under_way) {
    snprintf(t->message, sizeof t->message, "one at a time: %s still works", t->errand.comm);
    return;
  }
  enum status status = process_open(&process, (pid_t)r->process.pid, error);
  if (status == STATUS_OK) status = mailbox_open(&t->errand.mailbox, &process, error);
  if (status != STATUS_OK) {
    snprintf(t->message, sizeof t->message, "%.250s", error);
    return;
  }
  t->errand.under_way = true;
  t->errand.what = what;
  t->errand.since = now_ms();
  t->errand.asked = mailbox_ask(&t->errand.mailbox, what);
  memcpy(t->errand.comm, r->process.comm, sizeof t->errand.comm);
  snprintf(t->message, sizeof t->message, "%s of %s (process %llu) is under way", errand_name(what),
           r->process.comm, (unsigned long long)r->process.pid);
}

static void look_after_errand(struct top *t) {
  struct errand *e = &t->errand;
  uint64_t gained = 0;
  char text[24];
  if (!e->under_way) return;
  enum mailbox_answer answer = mailbox_wait(&e->mailbox, e->what, e->asked, 1, &gained);
  if (answer == MAILBOX_NOT_YET && now_ms() - e->since < ASK_MS) return;
  e->under_way = false;
  mailbox_close(&e->mailbox);
  if (answer == MAILBOX_DONE) {
    snprintf(t->message, sizeof t->message, "%s of %s: %s gained", errand_name(e->what), e->comm,
             cli_bytes(gained, text));
    read_all(t);
  } else {
    snprintf(t->message, sizeof t->message, "%s of %s: %s", errand_name(e->what), e->comm,
             answer == MAILBOX_GONE ? "it has ended" : "no answer within a minute");
  }
}

/* ---- keys ---- */

static void move_by(struct top *t, long lines) {
  if (!t->detail)
    select_line(t, (long)selected_line(t) + lines);
  else if (lines < 0 && t->view.scroll < (unsigned)-lines)
    t->view.scroll = 0;
  else
    t->view.scroll = (unsigned)((long)t->view.scroll + lines);
}

/* False: enough. */
static bool press(struct top *t, int key) {
  long page = LINES > 8 ? LINES - 6 : 1;
  switch (key) {
  case 'q':
    return false;
  case 27: /* Esc */
  case KEY_LEFT:
    show_details(t, false);
    break;
  case '\n':
  case KEY_ENTER:
  case KEY_RIGHT:
    if (t->fleet.n > 0 && !t->detail) {
      select_line(t, (long)selected_line(t)); /* which may be the first by default */
      show_details(t, true);
    }
    break;
  case 'm':
    t->view.show = (t->view.show + 1) % DETAIL_SHOWS;
    break;
  case KEY_UP:
  case 'k':
    move_by(t, -1);
    break;
  case KEY_DOWN:
  case 'j':
    move_by(t, 1);
    break;
  case KEY_PPAGE:
    move_by(t, -page);
    break;
  case KEY_NPAGE:
    move_by(t, page);
    break;
  case 's':
    t->order = t->order == FLEET_BY_PID ? FLEET_BY_HEAP : t->order + 1;
    fleet_sort(&t->fleet, t->order);
    break;
  case ' ':
    t->paused = !t->paused;
    break;
  case 'P':
    send_errand(t, QUIRE_MAIL_PURGE);
    break;
  case 'C':
    send_errand(t, QUIRE_MAIL_COMPACT);
    break;
  default:
    break;
  }
  return true;
}

static int watch(const struct command *command, struct top *t) {
  if (!isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO))
    return cli_fail(command, STATUS_FAILED,
                    "this is no terminal: --once prints the table once, --json as JSON");
  setlocale(LC_ALL, "");
  SCREEN *screen = newterm(NULL, stdout, stdin);
  if (screen == NULL) return cli_fail(command, STATUS_FAILED, "this terminal (TERM) is not known");
  t->colours = cli_may_colour(stdout) && has_colors() && start_color() == OK &&
               use_default_colors() == OK && init_pair(1, COLOR_YELLOW, -1) == OK;
  t->view.style.colour = t->colours && t->view.style.unicode && COLORS >= 256;
  cbreak();
  noecho();
  keypad(stdscr, TRUE);
  set_escdelay(25);
  timeout(TICK_MS);
  (void)curs_set(0);
  int key = ERR;
  do {
    look_after_errand(t);
    if (t->read_at == 0 || (!t->paused && now_ms() - t->read_at >= t->delay_ms)) read_all(t);
    draw(t);
  } while ((key = getch()) == ERR || press(t, key));
  endwin();
  delscreen(screen);
  detail_close(&t->view);
  return STATUS_OK;
}

/* ---- once ---- */

static int print_once(const struct command *command, struct top *t, bool json) {
  char text[512];
  read_all(t);
  if (json) {
    json_t *list = json_array();
    for (unsigned i = 0; i < t->fleet.n; i++)
      (void)json_array_append_new(list, report_json(&t->fleet.reports[i]));
    int err = json_dumpf(list, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(list);
    return cli_finish(command, err == 0 ? STATUS_OK : STATUS_FAILED);
  }
  format_totals(t, text, sizeof text);
  printf("%s\n%s%s%s\n", text, cli_style(stdout, CLI_BOLD), header, cli_style(stdout, CLI_PLAIN));
  for (unsigned i = 0; i < t->fleet.n; i++) {
    format_line(&t->fleet.reports[i], text, sizeof text);
    puts(text);
  }
  return cli_finish(command, STATUS_OK);
}

/* Those named must be there, as for every other subcommand. */
static int name_processes(const struct command *command, int argc, char **argv,
                          pid_t pids[PIDS_MAX], unsigned *n) {
  struct process process;
  int status = STATUS_OK;
  for (; optind < argc && status == STATUS_OK; optind++) {
    if (*n == PIDS_MAX) cli_usage(command, "%d processes at most", PIDS_MAX);
    pids[*n] = cli_number(command, argv[optind]);
    status = cli_open(command, pids[(*n)++], &process);
  }
  return status;
}

static int run(const struct command *command, int argc, char **argv) {
  static const struct option longs[] = {{"once", no_argument, NULL, OPTION_ONCE},
                                        {"json", no_argument, NULL, OPTION_JSON},
                                        {"sort", required_argument, NULL, OPTION_SORT},
                                        {"delay", required_argument, NULL, OPTION_DELAY},
                                        {"theme", required_argument, NULL, OPTION_THEME},
                                        {0}};
  static pid_t pids[PIDS_MAX];
  static struct top top = {.delay_ms = 2000, .fleet = {.with_kernel = true, .only = pids}};
  struct terminal terminal;
  const char *theme = NULL;
  bool once = false, json = false;
  int option, order;
  while ((option = cli_option(command, argc, argv, ":", longs)) != -1) {
    if (option == OPTION_ONCE) once = true;
    if (option == OPTION_JSON) json = true;
    if (option == OPTION_DELAY) top.delay_ms = cli_seconds(command, optarg);
    if (option == OPTION_THEME) theme = optarg;
    if (option == OPTION_SORT) {
      if ((order = fleet_order_of(optarg)) < 0)
        cli_usage(command, "--sort=heap, live, overhead, pss or pid");
      top.order = (enum fleet_order)order;
    }
  }
  if (!terminal_probe(&terminal, theme))
    cli_usage(command, "--theme is light or dark, not '%s'", theme);
  top.view.style = terminal.style;
  int status = name_processes(command, argc, argv, pids, &top.fleet.nonly);
  if (status != STATUS_OK) return status;
  status = once || json ? print_once(command, &top, json) : watch(command, &top);
  fleet_free(&top.fleet);
  return status;
}

const struct command command_top = {
    .name = "top",
    .summary = "all processes on quire, live",
    .usage = "[--sort=KEY] [--delay=SECONDS] [--theme=light|dark] [--once | --json] [PID]...",
    .help =
        "Shows all processes of this machine that run quire, or those named, sorted, and keeps\n"
        "showing them. Keys have one of them purge or compact its heap, and show the map of its\n"
        "heap (as quire map does; 'quire map -i' zooms) with all of its numbers (as quire stat\n"
        "does).\n\n"
        "      --sort=heap|live|overhead|pss|pid\n"
        "      --delay=SECONDS     between looks (2)\n"
        "      --theme=light|dark  the terminal's ground, for the map's colours\n"
        "      --once              print the table once\n"
        "      --json              the same as JSON: what 'quire stat --json' says of each\n"
        "      --help              this text\n\n"
        "keys: up, down select; Enter shows details, Esc goes back; s takes the next order; P has "
        "the\n"
        "selected one purge, C compact its heap; space pauses; q ends. In the details up and down\n"
        "scroll the numbers; m shows map and numbers, the map alone, or the numbers alone\n\n"
        "columns: HEAP is live bytes and overhead by quire's count, OVER what of it is overhead;\n"
        "PSS is the kernel's, of the whole process; HUGE the part of the heap on hugepages; "
        "MESHED\n"
        "what frames on hosts save; MAPS the mappings that compaction costs\n\n"
        "examples:\n"
        "  quire top\n"
        "  quire top --sort=overhead --delay=0.5\n"
        "  quire top --json | jq '.[] | {pid, live, heap}'\n",
    .status = "0, 1 it is no terminal",
    .statuses = CLI_STATUS_PROCESS,
    .run = run,
};
