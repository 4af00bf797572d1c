/*
 * Drives a headless Chromium over a pair of pipes (its DevTools protocol), with no network: opens a
 * page, and does what the lines of standard input say, as a user's mouse and keys would.
 *
 *   eval EXPRESSION     prints its value as JSON in one line; promises are waited for
 *   frame               waits until what was changed has been painted
 *   move X Y            the mouse, in pixels of the page
 *   down X Y, up X Y    its left button
 *   wheel X Y DELTA
 *   key NAME            one key ("c", "ArrowLeft", "Escape"; " " is Space)
 *   size WIDTH HEIGHT
 *   shot FILE           a PNG of the page
 *   errors              prints how many exceptions and console errors there were so far, and each
 *
 * usage: browser CHROMIUM PROFILE-DIRECTORY URL
 *
 * Ends with 0 when all of it could be done, 1 otherwise.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int to_browser, from_browser;
static pid_t browser;
static char session[128];
static json_int_t last_id;
static char *errors[256];
static unsigned nerrors;

static void die(const char *what) {
  fprintf(stderr, "browser: %s\n", what);
  if (browser > 0) kill(browser, SIGKILL);
  exit(1);
}

/* ---- messages: JSON with a NUL behind it ---- */

static void send_text(const char *text) {
  size_t size = strlen(text) + 1;
  while (size > 0) {
    ssize_t n = write(to_browser, text, size);
    if (n <= 0) die("it does not listen");
    text += n;
    size -= (size_t)n;
  }
}

static json_t *receive(void) {
  static char *buffer;
  static size_t used, capacity;
  char *end;
  while ((end = used == 0 ? NULL : memchr(buffer, 0, used)) == NULL) {
    if (capacity - used < 65536) buffer = realloc(buffer, capacity = capacity * 2 + 131072);
    if (buffer == NULL) die("no memory");
    ssize_t n = read(from_browser, buffer + used, capacity - used);
    if (n <= 0) die("it has gone");
    used += (size_t)n;
  }
  json_t *message = json_loads(buffer, 0, NULL);
  size_t length = (size_t)(end - buffer) + 1;
  memmove(buffer, end + 1, used - length);
  used -= length;
  if (message == NULL) die("it does not speak JSON");
  return message;
}

static const char *string_at(json_t *o, const char *a, const char *b, const char *c) {
  o = json_object_get(o, a);
  if (b != NULL) o = json_object_get(o, b);
  if (c != NULL) o = json_object_get(o, c);
  return json_string_value(o);
}

static void note_error(const char *text) {
  if (nerrors < sizeof errors / sizeof errors[0])
    errors[nerrors++] = strdup(text == NULL ? "without words" : text);
}

static void note(json_t *event) {
  const char *method = json_string_value(json_object_get(event, "method"));
  json_t *params = json_object_get(event, "params");
  if (method == NULL) return;
  if (strcmp(method, "Runtime.exceptionThrown") == 0) {
    const char *text = string_at(params, "exceptionDetails", "exception", "description");
    note_error(text != NULL ? text : string_at(params, "exceptionDetails", "text", NULL));
  } else if (strcmp(method, "Runtime.consoleAPICalled") == 0) {
    const char *type = json_string_value(json_object_get(params, "type"));
    if (type != NULL && (strcmp(type, "error") == 0 || strcmp(type, "warning") == 0)) {
      char *all = json_dumps(json_object_get(params, "args"), JSON_COMPACT);
      note_error(all);
      free(all);
    }
  } else if (strcmp(method, "Log.entryAdded") == 0) {
    const char *level = string_at(params, "entry", "level", NULL);
    if (level != NULL && strcmp(level, "error") == 0)
      note_error(string_at(params, "entry", "text", NULL));
  }
}

/* Sends a command and waits for its answer, which is to be freed. Takes params. */
static json_t *ask(const char *method, json_t *params) {
  json_int_t id = ++last_id;
  json_t *message = json_pack("{s:I, s:s, s:o}", "id", id, "method", method, "params", params);
  if (*session != 0) json_object_set_new(message, "sessionId", json_string(session));
  char *text = json_dumps(message, JSON_COMPACT);
  send_text(text);
  free(text);
  json_decref(message);
  for (;;) {
    json_t *answer = receive();
    if (json_integer_value(json_object_get(answer, "id")) == id) {
      const char *wrong = string_at(answer, "error", "message", NULL);
      if (wrong != NULL) {
        fprintf(stderr, "browser: %s\n", method);
        die(wrong);
      }
      return answer;
    }
    note(answer);
    json_decref(answer);
  }
}

static void tell(const char *method, json_t *params) { json_decref(ask(method, params)); }

/* ---- what the lines say ---- */

/* The value, or NULL after an exception. */
static json_t *evaluate(const char *expression) {
  json_t *answer = ask("Runtime.evaluate", json_pack("{s:s, s:b, s:b}", "expression", expression,
                                                     "awaitPromise", 1, "returnByValue", 1));
  json_t *result = json_object_get(answer, "result");
  json_t *value = NULL;
  if (json_object_get(result, "exceptionDetails") != NULL)
    note_error(string_at(result, "exceptionDetails", "exception", "description"));
  else
    value = json_object_get(json_object_get(result, "result"), "value");
  value = value == NULL ? NULL : json_incref(value);
  json_decref(answer);
  return value;
}

static void print_value(const char *expression) {
  json_t *value = evaluate(expression);
  char *text = value == NULL ? NULL : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
  puts(text == NULL ? "nothing" : text);
  free(text);
  json_decref(value);
}

static void wait_for_frame(void) {
  json_decref(evaluate("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))"));
}

static void mouse(const char *type, double x, double y, double delta, bool button) {
  tell("Input.dispatchMouseEvent",
       json_pack("{s:s, s:f, s:f, s:s, s:i, s:i, s:f, s:f}", "type", type, "x", x, "y", y, "button",
                 button ? "left" : "none", "buttons", button, "clickCount", button, "deltaX", 0.0,
                 "deltaY", delta));
}

static bool is_down;

static void press(const char *name) {
  char text[2] = {name[0], 0};
  bool is_character = name[0] != 0 && name[1] == 0;
  json_t *down = json_pack("{s:s, s:s}", "type", "keyDown", "key", name);
  if (is_character) json_object_set_new(down, "text", json_string(text));
  tell("Input.dispatchKeyEvent", down);
  tell("Input.dispatchKeyEvent", json_pack("{s:s, s:s}", "type", "keyUp", "key", name));
}

static void decode(const char *base64, FILE *out) {
  unsigned bits = 0, n = 0;
  for (; *base64 != 0 && *base64 != '='; base64++) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = strchr(digits, *base64);
    if (at == NULL) continue;
    bits = bits << 6 | (unsigned)(at - digits);
    n += 6;
    if (n >= 8) fputc((int)(bits >> (n -= 8) & 0xff), out);
  }
}

static void shoot(const char *path) {
  json_t *answer = ask("Page.captureScreenshot", json_pack("{s:s}", "format", "png"));
  const char *data = string_at(answer, "result", "data", NULL);
  FILE *out = data == NULL ? NULL : fopen(path, "wb");
  if (out == NULL) die("no screenshot");
  decode(data, out);
  if (fclose(out) != 0) die("no screenshot");
  json_decref(answer);
}

static void resize(int width, int height) {
  tell("Emulation.setDeviceMetricsOverride",
       json_pack("{s:i, s:i, s:i, s:b}", "width", width, "height", height, "deviceScaleFactor", 1,
                 "mobile", 0));
}

static bool obey(char *line) {
  double x, y, delta;
  char name[1024];
  line[strcspn(line, "\n")] = 0;
  if (strncmp(line, "eval ", 5) == 0) {
    print_value(line + 5);
  } else if (strcmp(line, "frame") == 0) {
    wait_for_frame();
  } else if (sscanf(line, "move %lf %lf", &x, &y) == 2) {
    mouse("mouseMoved", x, y, 0, is_down);
  } else if (sscanf(line, "down %lf %lf", &x, &y) == 2) {
    mouse("mousePressed", x, y, 0, is_down = true);
  } else if (sscanf(line, "up %lf %lf", &x, &y) == 2) {
    mouse("mouseReleased", x, y, 0, true);
    is_down = false;
  } else if (sscanf(line, "wheel %lf %lf %lf", &x, &y, &delta) == 3) {
    mouse("mouseWheel", x, y, delta, false);
  } else if (sscanf(line, "key %1023s", name) == 1) {
    press(strcmp(name, "Space") == 0 ? " " : name);
  } else if (sscanf(line, "size %lf %lf", &x, &y) == 2) {
    resize((int)x, (int)y);
  } else if (sscanf(line, "shot %1023s", name) == 1) {
    shoot(name);
  } else if (strcmp(line, "errors") == 0) {
    printf("%u", nerrors);
    for (unsigned i = 0; i < nerrors; i++) printf(" [%s]", errors[i]);
    putchar('\n');
  } else {
    return *line == 0;
  }
  fflush(stdout);
  return true;
}

/* ---- the browser ---- */

static void start(const char *program, const char *profile) {
  int in[2], out[2];
  char directory[1100];
  if (pipe2(in, 0) != 0 || pipe2(out, 0) != 0) die("no pipe");
  snprintf(directory, sizeof directory, "--user-data-dir=%s", profile);
  browser = fork();
  if (browser < 0) die("no process");
  if (browser == 0) {
    int quiet = open("/dev/null", O_RDWR);
    /* Out of the way first: the browser wants the descriptors 3 and 4. */
    int read_end = fcntl(in[0], F_DUPFD, 20), write_end = fcntl(out[1], F_DUPFD, 20);
    dup2(quiet, 0);
    dup2(quiet, 1);
    dup2(quiet, 2);
    dup2(read_end, 3);
    dup2(write_end, 4);
    close_range(5, ~0u, 0);
    execl(program, program, "--headless=new", "--remote-debugging-pipe", "--no-sandbox",
          "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
          "--disable-background-networking", "--disable-component-update", "--disable-sync",
          "--hide-scrollbars", "--force-color-profile=srgb", directory, "about:blank", (char *)NULL);
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  to_browser = in[1];
  from_browser = out[0];
}

static void open_page(const char *url) {
  json_t *answer = ask("Target.createTarget", json_pack("{s:s}", "url", "about:blank"));
  json_t *attached =
      ask("Target.attachToTarget",
          json_pack("{s:s, s:b}", "targetId", string_at(answer, "result", "targetId", NULL),
                    "flatten", 1));
  snprintf(session, sizeof session, "%s", string_at(attached, "result", "sessionId", NULL));
  json_decref(answer);
  json_decref(attached);
  tell("Runtime.enable", json_object());
  tell("Log.enable", json_object());
  tell("Page.enable", json_object());
  resize(1280, 800);
  tell("Page.navigate", json_pack("{s:s}", "url", url));
  json_decref(evaluate("new Promise(r => document.readyState === 'complete' ? r() : "
                       "addEventListener('load', r))"));
}

int main(int argc, char **argv) {
  static char line[65536];
  bool ok = true;
  if (argc != 4) die("usage: browser CHROMIUM PROFILE-DIRECTORY URL");
  signal(SIGPIPE, SIG_IGN);
  start(argv[1], argv[2]);
  open_page(argv[3]);
  while (fgets(line, sizeof line, stdin) != NULL)
    if (!obey(line)) {
      fprintf(stderr, "browser: what is '%s'?\n", line);
      ok = false;
    }
  *session = 0;
  tell("Browser.close", json_object());
  close(to_browser);
  waitpid(browser, NULL, 0);
  return ok ? 0 : 1;
}
