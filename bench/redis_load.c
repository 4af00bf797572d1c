/*
 * The load of the Mesh paper's Redis experiment, on a Unix socket: 700,000 values of 240 bytes,
 * then 170,000 of 492 under keys with another prefix, pipelined. What a value must be follows from
 * its key, so that `check` can read back all keys: those that were evicted are absent, all others
 * must be right.
 *
 * usage: redis_load SOCKET load|check [DIVISOR]
 *
 *   DIVISOR  of the number of values, for a shorter run
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { PIPELINE = 200, LARGEST = 492 };

static const struct stage {
  const char *prefix;
  size_t count, length;
} stages[] = {{"small", 700000, 240}, {"large", 170000, 492}};

static char request[PIPELINE * (LARGEST + 96)];
static char replies[1 << 16];
static size_t reply_at, reply_end;

static void fail(const char *what) {
  fprintf(stderr, "redis_load: %s\n", what);
  exit(1);
}

static int connect_to(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

  if (fd < 0 || strlen(path) >= sizeof(address.sun_path)) fail("socket");
  strcpy(address.sun_path, path);
  if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) fail(strerror(errno));
  return fd;
}

static void send_all(int fd, const char *data, size_t length) {
  while (length > 0) {
    ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) fail(strerror(errno));
    data += sent;
    length -= (size_t)sent;
  }
}

/* The next `length` bytes of the replies; they stay where they are until the next call. */
static const char *take(int fd, size_t length) {
  if (reply_at + length > sizeof(replies)) {
    memmove(replies, replies + reply_at, reply_end - reply_at);
    reply_end -= reply_at;
    reply_at = 0;
  }
  while (reply_end - reply_at < length) {
    ssize_t got = recv(fd, replies + reply_end, sizeof(replies) - reply_end, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) fail("the server closed the connection");
    reply_end += (size_t)got;
  }
  reply_at += length;
  return replies + reply_at - length;
}

/* One line of a reply, NUL-terminated, without its end. */
static const char *take_line(int fd) {
  static char line[128];
  size_t length = 0;

  do {
    if (length == sizeof(line)) fail("a reply that is too long");
    line[length++] = *take(fd, 1);
  } while (line[length - 1] != '\n');
  if (length < 2) fail("a reply without an end");
  line[length - 2] = '\0';
  return line;
}

static void value_of(const struct stage *stage, size_t key, char *value) {
  uint64_t x = (key + 1) * 0x9e3779b97f4a7c15u + stage->length;

  for (size_t i = 0; i < stage->length; i++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    value[i] = (char)('!' + x % 90);
  }
}

static size_t add_set(char *out, const struct stage *stage, size_t key) {
  char name[32];
  int length = snprintf(name, sizeof(name), "%s:%07zu", stage->prefix, key);
  int head = sprintf(out, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%zu\r\n", length, name, stage->length);

  value_of(stage, key, out + head);
  memcpy(out + head + stage->length, "\r\n", 2);
  return (size_t)head + stage->length + 2;
}

static size_t add_get(char *out, const struct stage *stage, size_t key) {
  char name[32];
  int length = snprintf(name, sizeof(name), "%s:%07zu", stage->prefix, key);

  return (size_t)sprintf(out, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", length, name);
}

/* True if the key was there; ends the program if its value is wrong. */
static bool check_one(int fd, const struct stage *stage, size_t key) {
  char want[LARGEST];
  const char *line = take_line(fd);

  if (strcmp(line, "$-1") == 0) return false;
  if (line[0] != '$' || strtoul(line + 1, NULL, 10) != stage->length) fail(line);
  value_of(stage, key, want);
  const char *got = take(fd, stage->length + 2);
  if (memcmp(got, want, stage->length) != 0) {
    fprintf(stderr, "redis_load: %s:%07zu reads back wrong\n", stage->prefix, key);
    exit(1);
  }
  return true;
}

static double seconds_now(void) {
  struct timespec now;

  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
  size_t present[2] = {0, 0}, values = 0;

  if (argc < 3 || argc > 4) fail("usage: redis_load SOCKET load|check [DIVISOR]");
  bool load = strcmp(argv[2], "load") == 0;
  size_t divisor = argc > 3 ? strtoul(argv[3], NULL, 10) : 1;
  if ((!load && strcmp(argv[2], "check") != 0) || divisor == 0) fail("load or check?");
  int fd = connect_to(argv[1]);

  double start = seconds_now();
  for (size_t s = 0; s < 2; s++) {
    const struct stage *stage = &stages[s];
    size_t count = stage->count / divisor;

    for (size_t first = 0; first < count; first += PIPELINE) {
      size_t end = first + PIPELINE < count ? first + PIPELINE : count, length = 0;

      for (size_t key = first; key < end; key++)
        length +=
            load ? add_set(request + length, stage, key) : add_get(request + length, stage, key);
      send_all(fd, request, length);
      for (size_t key = first; key < end; key++) {
        if (!load)
          present[s] += check_one(fd, stage, key);
        else if (strcmp(take_line(fd), "+OK") != 0)
          fail("SET was refused");
      }
    }
    values += count;
  }
  double seconds = seconds_now() - start;
  printf("{\"values\": %zu, \"seconds\": %.6f", values, seconds);
  if (!load) printf(", \"small\": %zu, \"large\": %zu", present[0], present[1]);
  puts("}");
  close(fd);
  return 0;
}
