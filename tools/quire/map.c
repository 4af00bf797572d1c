/* quire map: the picture of a heap. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/quire/browse.h"
#include "tools/quire/cli.h"
#include "tools/quire/image.h"
#include "tools/quire/page.h"
#include "tools/quire/recording.h"
#include "tools/quire/terminal.h"

enum {
  OPTION_JSON = 1000,
  OPTION_AT,
  OPTION_THEME,
  OPTION_WIDTH,
  OPTION_FRAME,
  MOMENTS_MAX = 2,
  FRAME_SIZE = 4096
};

enum form { FORM_TERMINAL, FORM_JSON, FORM_FRAME, FORM_PNG, FORM_SVG, FORM_HTML };

struct choices {
  const struct command *command;
  enum form form;
  bool browse;
  const char *output, *theme;
  uint64_t frame; /* a number, or an address */
  unsigned width;
  double at[MOMENTS_MAX];
  unsigned nat;
};

/* What is to be shown: one moment or two. */
struct moments {
  unsigned n;
  struct snapshot snapshots[MOMENTS_MAX];
  struct picture pictures[MOMENTS_MAX];
};

/* ---- getting them ---- */

static int fail(const struct choices *c, const char *error) {
  return cli_fail(c->command, STATUS_FAILED, "%s", error);
}

static int add(const struct choices *c, struct moments *m, const struct snapshot *snapshot) {
  m->snapshots[m->n] = *snapshot;
  picture_clean_names(&m->snapshots[m->n].process);
  if (!picture_make(snapshot, &m->pictures[m->n])) return fail(c, "no memory for the picture");
  m->n++;
  return STATUS_OK;
}

static int add_process(const struct choices *c, struct moments *m, pid_t pid) {
  struct process process;
  struct snapshot snapshot;
  char error[PROCESS_ERROR_MAX];
  int status = cli_open(c->command, pid, &process);
  if (status != STATUS_OK) return status;
  status = (int)process_snapshot(&process, &snapshot, error);
  if (status != STATUS_OK) return cli_fail(c->command, status, "%s", error);
  return add(c, m, &snapshot);
}

/* Or says why not. */
static bool open_recording(const struct choices *c, struct recording *out, const char *path) {
  char error[RECORDING_ERROR_MAX];
  if (!recording_open(out, path, error)) {
    fail(c, error);
    return false;
  }
  if (recording_damage(out, path, error)) fprintf(stderr, "quire map: %s\n", error);
  return true;
}

static int add_moment(const struct choices *c, struct moments *m, struct recording *r, double at) {
  struct snapshot snapshot;
  char error[RECORDING_ERROR_MAX];
  uint32_t index = at < 0 ? r->count - 1 : recording_find(r, at);
  if (!recording_read(r, index, &snapshot, error)) return fail(c, error);
  return add(c, m, &snapshot);
}

static int add_file(const struct choices *c, struct moments *m, const char *path) {
  struct recording r;
  if (!open_recording(c, &r, path)) return STATUS_FAILED;
  int status = c->nat == 0 ? add_moment(c, m, &r, -1) : STATUS_OK;
  for (unsigned i = 0; i < c->nat && status == STATUS_OK; i++)
    status = add_moment(c, m, &r, c->at[i]);
  recording_close(&r);
  return status;
}

static int gather(const struct choices *c, struct moments *m, int n, char **sources) {
  int status = STATUS_OK;
  for (int i = 0; i < n && status == STATUS_OK; i++)
    status = cli_is_process(c->command, sources[i])
                 ? add_process(c, m, (pid_t)strtol(sources[i], NULL, 10))
                 : add_file(c, m, sources[i]);
  return status;
}

static void release(struct moments *m) {
  for (unsigned i = 0; i < m->n; i++) {
    picture_free(&m->pictures[i]);
    snapshot_free(&m->snapshots[i]);
  }
}

/* ---- showing them ---- */

static int show_json(const struct choices *c, const struct moments *m) {
  json_t *all = json_array();
  for (unsigned i = 0; i < m->n; i++)
    json_array_append_new(all, picture_json(&m->snapshots[i], &m->pictures[i]));
  json_t *what = m->n == 1 ? json_array_get(all, 0) : all;
  int failed = json_dumpf(what, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
  json_decref(all);
  putchar('\n');
  if (failed) return fail(c, "can't write it");
  return cli_finish(c->command, STATUS_OK);
}

/* Numbers that are no frame's are addresses. */
static int show_frame(const struct choices *c, const struct moments *m) {
  char text[256];
  for (unsigned i = 0; i < m->n; i++) {
    const struct snapshot *s = &m->snapshots[i];
    uint64_t frame = c->frame < s->nframes ? c->frame : (c->frame - s->base) / FRAME_SIZE;
    if (frame >= s->nframes)
      return cli_fail(c->command, STATUS_FAILED, "%#llx is not in this heap's %u frames",
                      (unsigned long long)c->frame, s->nframes);
    picture_describe(s, (uint32_t)frame, text, sizeof text);
    puts(text);
  }
  return cli_finish(c->command, STATUS_OK);
}

static int show_terminal(const struct choices *c, const struct moments *m,
                         struct terminal *terminal) {
  if (c->width > 0) terminal->width = c->width;
  unsigned height = terminal->height > 4 ? terminal->height - 1 : 4; /* the prompt's line */
  struct screen s = {NULL, terminal->width, terminal->width, height};
  s.cells = calloc((size_t)s.width * s.height, sizeof *s.cells);
  if (s.cells == NULL) return fail(c, "no memory for the screen");
  for (unsigned i = 0; i < m->n; i++) {
    unsigned rows = screen_page(&s, &m->snapshots[i], &m->pictures[i], &terminal->style);
    terminal_print(stdout, terminal, &s, rows);
  }
  free(s.cells);
  return cli_finish(c->command, STATUS_OK);
}

static int write_image(const struct choices *c, const struct moments *m) {
  struct image image = {
      .format = c->form == FORM_PNG ? IMAGE_PNG : IMAGE_SVG, .width = c->width, .npanels = m->n};
  char error[IMAGE_ERROR_MAX];
  if (c->theme != NULL && strcmp(c->theme, "dark") == 0) image.theme = PALETTE_DARK;
  for (unsigned i = 0; i < m->n; i++) {
    image.panels[i].snapshot = &m->snapshots[i];
    image.panels[i].picture = &m->pictures[i];
    if (m->n > 1) strcpy(image.panels[i].caption, i == 0 ? "before" : "after");
  }
  return image_write(&image, c->output, error) ? STATUS_OK : fail(c, error);
}

static int write_page_to(const struct choices *c, struct page *page) {
  FILE *out = fopen(c->output, "w");
  if (out == NULL) return cli_fail(c->command, STATUS_FAILED, "%s: %s", c->output, strerror(errno));
  page->theme = c->theme;
  bool ok = page_write(page, out);
  if (fclose(out) != 0) ok = false;
  if (ok) return STATUS_OK;
  return cli_fail(c->command, STATUS_FAILED, "%s: %s", c->output, strerror(errno));
}

/* The page of moments carries a recording that is made of them. */
static int write_moments_page(const struct choices *c, const struct moments *m) {
  struct recorder recorder;
  char *bytes = NULL;
  struct page page = {.title = m->snapshots[0].process.comm};
  FILE *memory = open_memstream(&bytes, &page.size);
  if (memory == NULL) return fail(c, "no memory for the page");
  bool ok = recorder_open(&recorder, memory, &m->snapshots[0].process);
  for (unsigned i = 0; ok && i < m->n; i++) ok = recorder_add(&recorder, &m->snapshots[i]);
  recorder_close(&recorder);
  if (fclose(memory) != 0) ok = false;
  page.recording = bytes;
  if (m->n == 2) page.labels[0] = "before";
  if (m->n == 2) page.labels[1] = "after";
  int status = ok ? write_page_to(c, &page) : fail(c, "no memory for the page");
  free(bytes);
  return status;
}

static int write_recording_page(const struct choices *c, const char *path) {
  struct recording r;
  if (!open_recording(c, &r, path)) return STATUS_FAILED;
  struct page page = {.title = r.header.process.comm, .recording = r.bytes, .size = (size_t)r.good};
  int status = write_page_to(c, &page);
  recording_close(&r);
  return status;
}

static int show(const struct choices *c, struct moments *m, struct terminal *terminal) {
  if (c->form == FORM_JSON) return show_json(c, m);
  if (c->form == FORM_FRAME) return show_frame(c, m);
  if (c->form == FORM_TERMINAL) return show_terminal(c, m, terminal);
  return c->form == FORM_HTML ? write_moments_page(c, m) : write_image(c, m);
}

/* ---- options ---- */

static enum form form_of(const struct choices *c, const char *path) {
  const char *end = strrchr(path, '.');
  if (end != NULL && strcmp(end, ".png") == 0) return FORM_PNG;
  if (end != NULL && strcmp(end, ".svg") == 0) return FORM_SVG;
  if (end != NULL && (strcmp(end, ".html") == 0 || strcmp(end, ".htm") == 0)) return FORM_HTML;
  cli_usage(c->command, "what is '%s' to be? Its name should end in .png, .svg or .html", path);
}

static double seconds(const struct choices *c, const char *text) {
  char *end;
  double value = strtod(text, &end);
  if (end == text || *end != 0 || !(value >= 0) || value > 1e9)
    cli_usage(c->command, "'%s' is not a number of seconds", text);
  return value;
}

static unsigned width(const struct choices *c, const char *text) {
  char *end;
  unsigned long value = strtoul(text, &end, 10);
  if (end == text || *end != 0 || *text == '-' || value < 20 || value > 20000)
    cli_usage(c->command, "'%s' is not a width (20 to 20000)", text);
  return (unsigned)value;
}

static uint64_t frame(const struct choices *c, const char *text) {
  char *end;
  errno = 0;
  unsigned long long value = strtoull(text, &end, 0);
  if (end == text || *end != 0 || *text == '-' || errno != 0)
    cli_usage(c->command, "'%s' is neither a frame's number nor an address", text);
  return value;
}

static void read_options(struct choices *c, int argc, char **argv) {
  static const struct option longs[] = {{"output", required_argument, NULL, 'o'},
                                        {"interactive", no_argument, NULL, 'i'},
                                        {"json", no_argument, NULL, OPTION_JSON},
                                        {"frame", required_argument, NULL, OPTION_FRAME},
                                        {"at", required_argument, NULL, OPTION_AT},
                                        {"theme", required_argument, NULL, OPTION_THEME},
                                        {"width", required_argument, NULL, OPTION_WIDTH},
                                        {0}};
  int option;
  while ((option = cli_option(c->command, argc, argv, ":o:i", longs)) != -1) {
    if (option == 'i') c->browse = true;
    if (option == 'o') c->output = optarg;
    if (option == OPTION_JSON) c->form = FORM_JSON;
    if (option == OPTION_FRAME) c->form = FORM_FRAME;
    if (option == OPTION_FRAME) c->frame = frame(c, optarg);
    if (option == OPTION_THEME) c->theme = optarg;
    if (option == OPTION_WIDTH) c->width = width(c, optarg);
    if (option != OPTION_AT) continue;
    if (c->nat == MOMENTS_MAX) cli_usage(c->command, "--at twice at most");
    c->at[c->nat++] = seconds(c, optarg);
  }
  if (c->output != NULL && c->form != FORM_TERMINAL)
    cli_usage(c->command, "-o, --json or --frame, one of them");
  if (c->output != NULL) c->form = form_of(c, c->output);
  if (c->browse && c->form != FORM_TERMINAL)
    cli_usage(c->command, "-i is for the terminal, without -o, --json and --frame");
}

static void check_sources(const struct choices *c, int n, char **sources) {
  int most = c->browse ? 1 : MOMENTS_MAX;
  if (n == 0) cli_usage(c->command, "of which process, or which recording?");
  if (n > most) cli_usage(c->command, most == 1 ? "one at a time" : "two at most");
  if (n == 2 && c->nat > 0) cli_usage(c->command, "--at is for one recording");
  for (int i = 0; i < n; i++)
    if (cli_is_process(c->command, sources[i]) && c->nat > 0)
      cli_usage(c->command, "--at is for recordings, and %s is a process", sources[i]);
}

static int run(const struct command *command, int argc, char **argv) {
  static struct moments moments;
  struct choices c = {.command = command};
  struct terminal terminal;
  read_options(&c, argc, argv);
  int n = argc - optind;
  check_sources(&c, n, argv + optind);
  if (!terminal_probe(&terminal, c.theme))
    cli_usage(command, "--theme is light or dark, not '%s'", c.theme);
  if (c.browse) return browse(command, argv[optind], c.nat > 0 ? c.at[0] : -1, &terminal);
  if (c.form == FORM_HTML && n == 1 && c.nat == 0 && !cli_is_process(command, argv[optind]))
    return write_recording_page(&c, argv[optind]);
  int status = gather(&c, &moments, n, argv + optind);
  if (status == STATUS_OK) status = show(&c, &moments, &terminal);
  release(&moments);
  return status;
}

const struct command command_map = {
    .name = "map",
    .summary = "the picture of a heap: in the terminal, as an image, as a page",
    .usage = "[-o FILE.png|.svg|.html | -i | --json | --frame N] [--at SECONDS]... PID|RECORDING "
             "[RECORDING]",
    .help =
        "Draws a heap, one cell per frame of 4 KiB, hugepage by hugepage (32 x 16 cells each), by\n"
        "what each frame is and how much of it lives: of a process as it is now, or of what\n"
        "'quire record' wrote. The darker on light ground (the brighter on dark), the fuller; "
        "what\n"
        "is nearly the ground's colour costs no memory. Two recordings, or two moments of one,\n"
        "are drawn as before and after. A file whose name is a number: ./NUMBER.\n\n"
        "  -o, --output=FILE   write an image (.png, .svg) or a page for the browser (.html), "
        "which\n"
        "                      zooms, tells of each frame, compares, and plays recordings\n"
        "  -i, --interactive   look around in the terminal: arrows, + and -, q; ? for more\n"
        "      --at=SECONDS    of a recording: this long after its beginning, not its end; twice\n"
        "                      for before and after\n"
        "      --theme=light|dark\n"
        "      --width=N       of the terminal's view in characters, of images in pixels\n"
        "      --json          frames of each kind in numbers\n"
        "      --frame=N       what one frame is, by its number or any address in it\n"
        "      --help          this text\n\n"
        "examples:\n"
        "  quire map 1234\n"
        "  quire map -o heap.html $(pidof redis-server)\n"
        "  quire map -o heap.png before.qrec after.qrec\n"
        "  quire map --at 0 --at 12.5 -o compare.html redis.qrec\n"
        "  quire map --json 1234 | jq .kinds.guest\n",
    .status = "0, 1 it could not be read or written",
    .statuses = CLI_STATUS_PROCESS,
    .run = run,
};
