#include "tools/quire/browse.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "tools/quire/recording.h"

enum {
  LIVE_MS = 1000, /* from one look at a process to the next */
  PLAY_MS = 150,  /* from one moment of a recording to the next */
  KEY_UP = 256,
  KEY_DOWN,
  KEY_LEFT,
  KEY_RIGHT,
  KEY_PAGE_UP,
  KEY_PAGE_DOWN,
  KEY_HOME,
  KEY_END,
};

struct browser {
  const struct command *command;
  struct terminal *terminal;
  bool is_recording, running, help; /* running: live, or playing */
  struct process process;
  struct recording recording;
  uint32_t index; /* of the moment in the recording */
  struct snapshot snapshot;
  struct picture picture;
  struct screen screen, map; /* map is a part of screen */
  struct screen_view view;
  uint32_t cursor; /* a frame */
  char message[PROCESS_ERROR_MAX];
};

static volatile sig_atomic_t ended, resized;

static void on_end(int signal) {
  (void)signal;
  ended = 1;
}
static void on_resize(int signal) {
  (void)signal;
  resized = 1;
}

/* ---- what is looked at ---- */

/* A new snapshot in the place of the one before; when it can't be had that stays. */
static int replace(struct browser *b, struct snapshot *fresh) {
  struct picture picture;
  if (!picture_make(fresh, &picture)) {
    snapshot_free(fresh);
    snprintf(b->message, sizeof b->message, "no memory for the picture");
    return STATUS_FAILED;
  }
  picture_free(&b->picture);
  snapshot_free(&b->snapshot);
  b->snapshot = *fresh;
  picture_clean_names(&b->snapshot.process);
  b->picture = picture;
  if (b->cursor >= picture.ncells) b->cursor = picture.ncells == 0 ? 0 : picture.ncells - 1;
  return STATUS_OK;
}

static int look(struct browser *b) {
  struct snapshot fresh;
  *b->message = 0;
  if (b->is_recording) {
    if (!recording_read(&b->recording, b->index, &fresh, b->message)) return STATUS_FAILED;
    return replace(b, &fresh);
  }
  int status = (int)process_snapshot(&b->process, &fresh, b->message);
  return status == STATUS_OK ? replace(b, &fresh) : status;
}

static int begin(struct browser *b, const char *source, double at) {
  b->is_recording = !cli_is_process(b->command, source);
  if (!b->is_recording) {
    b->running = true;
    int status = cli_open(b->command, (pid_t)strtol(source, NULL, 10), &b->process);
    if (status != STATUS_OK) return status;
  } else {
    if (!recording_open(&b->recording, source, b->message))
      return cli_fail(b->command, STATUS_FAILED, "%s", b->message);
    b->index = at < 0 ? b->recording.count - 1 : recording_find(&b->recording, at);
  }
  int status = look(b);
  if (status != STATUS_OK) return cli_fail(b->command, status, "%s", b->message);
  if (b->is_recording) (void)recording_damage(&b->recording, source, b->message);
  return STATUS_OK;
}

/* ---- the screen ---- */

static bool lay_out(struct browser *b) {
  struct terminal *t = b->terminal;
  terminal_measure(t);
  struct screen_cell *cells =
      realloc(b->screen.cells, (size_t)t->width * t->height * sizeof *cells);
  if (cells == NULL) return false;
  b->screen = (struct screen){cells, t->width, t->width, t->height};
  return true;
}

static void fit(struct browser *b) {
  unsigned rows = b->screen.height > 5 ? b->screen.height - 4 : 1;
  b->map =
      (struct screen){b->screen.cells + b->screen.stride, b->screen.stride, b->screen.width, rows};
}

/* Brings the cursor into sight, and no more of nothing than need be. */
static void scroll(struct browser *b) {
  unsigned x, y, width, height, rows = screen_pixel_rows(&b->map, &b->terminal->style);
  screen_place(&b->view, b->cursor, &x, &y);
  screen_extent(&b->picture, &b->view, &width, &height);
  if (x < b->view.x) b->view.x = x;
  if (x >= b->view.x + b->map.width) b->view.x = x - b->map.width + 1;
  if (y < b->view.y) b->view.y = y / 2 * 2;
  if (y >= b->view.y + rows) b->view.y = (y - rows + 2) / 2 * 2;
  if (height <= rows) b->view.y = 0;
  if (width <= b->map.width) b->view.x = 0;
}

static void put_cursor(struct browser *b) {
  unsigned x, y;
  bool half = b->terminal->style.colour;
  screen_place(&b->view, b->cursor, &x, &y);
  if (x < b->view.x || y < b->view.y) return;
  x -= b->view.x;
  y -= b->view.y;
  if (half) y /= 2;
  if (x >= b->map.width || y >= b->map.height) return;
  struct screen_cell *cell = &b->map.cells[(size_t)y * b->map.stride + x];
  *cell =
      (struct screen_cell){'+', half ? 0x000000 : SCREEN_DEFAULT, half ? 0xffffff : SCREEN_DEFAULT};
}

static void put_title(struct browser *b) {
  char text[200], held[24], live[24], where[64] = "";
  if (b->is_recording)
    snprintf(where, sizeof where, "  %u/%u at %.1f s", b->index + 1, b->recording.count,
             recording_seconds(&b->recording, b->index));
  snprintf(text, sizeof text, "%.32s %llu%s  %s held, %s live%s", b->snapshot.process.comm,
           (unsigned long long)b->snapshot.process.pid, where,
           cli_bytes(b->picture.held * 4096, held), cli_bytes(b->picture.live, live),
           !b->running       ? ""
           : b->is_recording ? "  [plays]"
                             : "  [live]");
  screen_text(&b->screen, 0, 0, SCREEN_DEFAULT, text);
}

static const char help_process[] =
    "arrows PgUp PgDn g G: move  + - 0: zoom, all  space: live or still  q: quit";
static const char help_recording[] =
    "arrows g G: move  + - 0: zoom, all  , .: moment back, on  space: play  q: quit";

static void paint(struct browser *b) {
  char text[256];
  unsigned height = b->screen.height;
  screen_clear(&b->screen);
  put_title(b);
  scroll(b);
  screen_draw(&b->map, &b->picture, &b->view, &b->terminal->style);
  put_cursor(b);
  struct screen bottom = {b->screen.cells + (size_t)(height - 2) * b->screen.stride,
                          b->screen.stride, b->screen.width, 1};
  if (height > 5) screen_legend(&bottom, &b->picture, &b->terminal->style);
  picture_describe(&b->snapshot, b->cursor, text, sizeof text);
  screen_text(&b->screen, 0, height - 3, SCREEN_DEFAULT, *b->message ? b->message : text);
  if (b->help || height <= 5)
    screen_text(&b->screen, 0, height - 1, SCREEN_DEFAULT,
                b->is_recording ? help_recording : help_process);
  else
    screen_text(&b->screen, 0, height - 1, SCREEN_DEFAULT, "?: keys  q: quit");
  terminal_paint(stdout, b->terminal, &b->screen);
  fflush(stdout);
}

/* ---- keys ---- */

static int read_key(void) {
  static const struct {
    const char *bytes;
    int key;
  } sequences[] = {{"[A", KEY_UP},         {"[B", KEY_DOWN}, {"[C", KEY_RIGHT},
                   {"[D", KEY_LEFT},       {"OA", KEY_UP},   {"OB", KEY_DOWN},
                   {"OC", KEY_RIGHT},      {"OD", KEY_LEFT}, {"[5~", KEY_PAGE_UP},
                   {"[6~", KEY_PAGE_DOWN}, {"[H", KEY_HOME}, {"[F", KEY_END},
                   {"[1~", KEY_HOME},      {"[4~", KEY_END}};
  char bytes[16] = {0};
  ssize_t n = read(STDIN_FILENO, bytes, 1);
  if (n <= 0) return n == 0 ? 'q' : 0;
  if (bytes[0] != 033) return (unsigned char)bytes[0];
  struct pollfd in = {STDIN_FILENO, POLLIN, 0};
  unsigned used = 0;
  while (used < 6 && poll(&in, 1, 20) > 0 && read(STDIN_FILENO, bytes + used, 1) == 1) {
    bytes[++used] = 0;
    for (unsigned i = 0; i < sizeof sequences / sizeof sequences[0]; i++)
      if (strcmp(bytes, sequences[i].bytes) == 0) return sequences[i].key;
  }
  return used == 0 ? 'q' : 0; /* the escape key alone */
}

/* Moves the cursor by pixels, or frames that are larger; over gaps to what is behind them. */
static void move(struct browser *b, int dx, int dy) {
  unsigned x, y, width, height;
  if (b->view.step < 0) dx *= 1 << -b->view.step;
  if (b->view.step < 0) dy *= 1 << -b->view.step;
  screen_place(&b->view, b->cursor, &x, &y);
  screen_extent(&b->picture, &b->view, &width, &height);
  for (int tries = 0; tries < 3; tries++) {
    long long to_x = (long long)x + dx, to_y = (long long)y + dy;
    x = to_x < 0 ? 0 : to_x >= width ? width - 1 : (unsigned)to_x;
    y = to_y < 0 ? 0 : to_y >= height ? height - 1 : (unsigned)to_y;
    uint32_t frame = screen_frame(&b->picture, &b->view, x, y);
    if (frame != UINT32_MAX) {
      b->cursor = frame;
      return;
    }
    dx = (dx > 0) - (dx < 0);
    dy = (dy > 0) - (dy < 0);
  }
}

static void zoom(struct browser *b, int step) {
  screen_set_step(&b->view, step, &b->map);
  b->view.x = b->view.y = 0;
}

static void step_to(struct browser *b, uint32_t index) {
  if (!b->is_recording || index >= b->recording.count) return;
  b->index = index;
  look(b);
}

static void press(struct browser *b, int key) {
  int rows = (int)screen_pixel_rows(&b->map, &b->terminal->style);
  *b->message = 0; /* it has been read */
  switch (key) {
  case 'k':
  case KEY_UP:
    move(b, 0, -1);
    break;
  case 'j':
  case KEY_DOWN:
    move(b, 0, 1);
    break;
  case 'h':
  case KEY_LEFT:
    move(b, -1, 0);
    break;
  case 'l':
  case KEY_RIGHT:
    move(b, 1, 0);
    break;
  case KEY_PAGE_UP:
    move(b, 0, -rows);
    break;
  case KEY_PAGE_DOWN:
    move(b, 0, rows);
    break;
  case 'g':
  case KEY_HOME:
    b->cursor = 0;
    break;
  case 'G':
  case KEY_END:
    b->cursor = b->picture.ncells == 0 ? 0 : b->picture.ncells - 1;
    break;
  case '+':
  case '=':
    zoom(b, b->view.step - 1);
    break;
  case '-':
    zoom(b, b->view.step + 1);
    break;
  case '0':
    b->view = screen_fit(&b->picture, &b->map, &b->terminal->style);
    break;
  case ' ':
    b->running = !b->running;
    break;
  case '.':
  case '>':
    step_to(b, b->index + 1);
    break;
  case ',':
  case '<':
    if (b->index > 0) step_to(b, b->index - 1);
    break;
  case '?':
    b->help = !b->help;
    break;
  case 'q':
    ended = 1;
    break;
  default:
    break;
  }
}

/* ---- the loop ---- */

static void tick(struct browser *b) {
  if (!b->is_recording)
    look(b);
  else if (b->index + 1 < b->recording.count)
    step_to(b, b->index + 1);
  else
    b->running = false;
}

static void again(struct browser *b, int step) {
  resized = 0;
  if (!lay_out(b)) return;
  fit(b);
  screen_set_step(&b->view, step, &b->map);
}

static void loop(struct browser *b) {
  struct pollfd in = {STDIN_FILENO, POLLIN, 0};
  while (!ended) {
    paint(b);
    int ms = !b->running ? -1 : b->is_recording ? PLAY_MS : LIVE_MS;
    int n = poll(&in, 1, ms);
    if (resized) again(b, b->view.step);
    if (n > 0) press(b, read_key());
    if (n == 0) tick(b);
  }
}

static int on_terminal(struct browser *b) {
  struct termios before, raw;
  struct sigaction end = {.sa_handler = on_end}, resize = {.sa_handler = on_resize};
  if (tcgetattr(STDIN_FILENO, &before) != 0 || !isatty(STDOUT_FILENO))
    return cli_fail(b->command, STATUS_FAILED, "-i needs a terminal");
  if (!lay_out(b)) return cli_fail(b->command, STATUS_FAILED, "no memory for the screen");
  fit(b);
  b->view = screen_fit(&b->picture, &b->map, &b->terminal->style);
  raw = before;
  raw.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
  sigaction(SIGINT, &end, NULL);
  sigaction(SIGTERM, &end, NULL);
  sigaction(SIGHUP, &end, NULL);
  sigaction(SIGWINCH, &resize, NULL);
  tcsetattr(STDIN_FILENO, TCSANOW, &raw);
  fputs("\033[?1049h\033[?25l", stdout);
  loop(b);
  fputs("\033[?25h\033[?1049l", stdout);
  tcsetattr(STDIN_FILENO, TCSANOW, &before);
  return cli_finish(b->command, STATUS_OK);
}

int browse(const struct command *command, const char *source, double at,
           struct terminal *terminal) {
  static struct browser b;
  b.command = command;
  b.terminal = terminal;
  int status = begin(&b, source, at);
  if (status == STATUS_OK) status = on_terminal(&b);
  picture_free(&b.picture);
  snapshot_free(&b.snapshot);
  if (b.is_recording) recording_close(&b.recording);
  free(b.screen.cells);
  return status;
}
