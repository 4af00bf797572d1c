// A small key-value server, as people write them: one thread accepts, workers wait on epoll, values
// live in a hash table under a few locks. Linked statically with libquire.a, it is the test of
// quire without the dynamic linker. The same program is its client, which keeps a model of what it
// stored and checks every answer.
//
//   server serve PORTFILE        prints statistics of the heap and ends on SIGTERM
//   server load PORT SEED COUNT  works on keys of its own, checks all of them at the end
//
// On the wire, both ways: one byte of operation or status, then key length and value length
// (uint32_t in host order, this is loopback), then key and value.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "expect.h"
#include "quire.h"

enum { WORKERS = 3, SHARDS = 16, BUCKETS = 1 << 12, MAX_LENGTH = 1 << 22 };
enum operation { SET = 's', GET = 'g', APPEND = 'a', REMOVE = 'r', YES = 'y', NO = 'n' };

struct header {
  uint32_t operation, key_length, value_length;
};

/* ---- the table ---- */

struct entry {
  struct entry *next;
  char *key, *value;
  uint32_t key_length, value_length;
};

static struct shard {
  pthread_mutex_t lock;
  struct entry *buckets[BUCKETS];
} shards[SHARDS];

static uint32_t hash_of(const char *key, uint32_t length) {
  uint32_t hash = 2166136261u;
  for (uint32_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)key[i]) * 16777619u;
  return hash;
}

static struct entry **find(struct shard *shard, uint32_t hash, const char *key, uint32_t length) {
  struct entry **at = &shard->buckets[hash / SHARDS % BUCKETS];
  while (*at && ((*at)->key_length != length || memcmp((*at)->key, key, length))) at = &(*at)->next;
  return at;
}

// Carries out one request on the table. What a GET found is copied into *answer.
static enum operation carry_out(const struct header *h, const char *key, const char *value,
                                char **answer, uint32_t *answer_length) {
  uint32_t hash = hash_of(key, h->key_length);
  struct shard *shard = &shards[hash % SHARDS];
  enum operation status = YES;
  pthread_mutex_lock(&shard->lock);
  struct entry **at = find(shard, hash, key, h->key_length), *entry = *at;
  switch ((enum operation)h->operation) {
  case GET:
    if (!entry) {
      status = NO;
      break;
    }
    *answer = malloc(entry->value_length + 1);
    *answer_length = entry->value_length;
    memcpy(*answer, entry->value, entry->value_length);
    break;
  case SET:
  case APPEND:
    if (!entry) {
      entry = *at = calloc(1, sizeof *entry);
      entry->key = malloc(h->key_length);
      entry->key_length = h->key_length;
      memcpy(entry->key, key, h->key_length);
    }
    if (h->operation == SET) {
      free(entry->value);
      entry->value = NULL;
      entry->value_length = 0;
    }
    entry->value = realloc(entry->value, entry->value_length + h->value_length + 1);
    memcpy(entry->value + entry->value_length, value, h->value_length);
    entry->value_length += h->value_length;
    break;
  case REMOVE:
    if (!entry) {
      status = NO;
      break;
    }
    *at = entry->next;
    free(entry->key);
    free(entry->value);
    free(entry);
    break;
  default:
    status = NO;
  }
  pthread_mutex_unlock(&shard->lock);
  return status;
}

/* ---- both sides of the wire ---- */

static int read_all(int fd, void *to, size_t length) {
  for (char *at = to; length;) {
    ssize_t n = read(fd, at, length);
    if (n == 0 || (n < 0 && errno != EINTR)) return 0;
    if (n > 0) at += n, length -= (size_t)n;
  }
  return 1;
}

static int write_all(int fd, const void *from, size_t length) {
  for (const char *at = from; length;) {
    ssize_t n = send(fd, at, length, MSG_NOSIGNAL);
    if (n < 0 && errno != EINTR) return 0;
    if (n > 0) at += n, length -= (size_t)n;
  }
  return 1;
}

static int send_message(int fd, uint32_t operation, const void *key, uint32_t key_length,
                        const void *value, uint32_t value_length) {
  struct header h = {operation, key_length, value_length};
  size_t size = sizeof h + key_length + value_length;
  char *message = malloc(size);
  memcpy(message, &h, sizeof h);
  if (key_length) memcpy(message + sizeof h, key, key_length);
  if (value_length) memcpy(message + sizeof h + key_length, value, value_length);
  int sent = write_all(fd, message, size);
  free(message);
  return sent;
}

// Reads one message; key and value share one block at *body.
static int receive_message(int fd, struct header *h, char **body) {
  *body = NULL;
  if (!read_all(fd, h, sizeof *h)) return 0;
  if (h->key_length > MAX_LENGTH || h->value_length > MAX_LENGTH) return 0;
  *body = malloc((size_t)h->key_length + h->value_length + 1);
  if (*body && read_all(fd, *body, (size_t)h->key_length + h->value_length)) return 1;
  free(*body);
  return 0;
}

/* ---- the server ---- */

static int poll_fd, listen_fd;

static int serve_one(int fd) {
  struct header h;
  char *body, *answer = NULL;
  uint32_t answer_length = 0;
  if (!receive_message(fd, &h, &body)) return 0;
  enum operation status = carry_out(&h, body, body + h.key_length, &answer, &answer_length);
  free(body);
  int sent = send_message(fd, status, NULL, 0, answer, answer_length);
  free(answer);
  return sent;
}

static void *worker(void *unused) {
  (void)unused;
  for (;;) {
    struct epoll_event event;
    if (epoll_wait(poll_fd, &event, 1, -1) < 1) continue;
    int fd = event.data.fd;
    if (!serve_one(fd)) {
      close(fd);
      continue;
    }
    event.events = EPOLLIN | EPOLLONESHOT;
    epoll_ctl(poll_fd, EPOLL_CTL_MOD, fd, &event);
  }
  return NULL;
}

static void *accept_all(void *unused) {
  (void)unused;
  for (;;) {
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) continue;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = fd};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event);
  }
  return NULL;
}

static struct sockaddr_in loopback(unsigned port) {
  return (struct sockaddr_in){.sin_family = AF_INET,
                              .sin_port = htons((uint16_t)port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int serve(const char *port_file) {
  sigset_t end;
  sigemptyset(&end);
  sigaddset(&end, SIGTERM);
  sigprocmask(SIG_BLOCK, &end, NULL);
  for (int i = 0; i < SHARDS; i++) pthread_mutex_init(&shards[i].lock, NULL);

  struct sockaddr_in address = loopback(0);
  socklen_t length = sizeof address;
  listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  poll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (bind(listen_fd, (struct sockaddr *)&address, sizeof address) || listen(listen_fd, 100) ||
      getsockname(listen_fd, (struct sockaddr *)&address, &length)) {
    perror("listen");
    return 1;
  }
  pthread_t thread;
  for (int i = 0; i < WORKERS; i++) pthread_create(&thread, NULL, worker, NULL);
  pthread_create(&thread, NULL, accept_all, NULL);

  // Written under another name first: whoever sees the file sees the whole of it.
  char part[4096];
  snprintf(part, sizeof part, "%s.part", port_file);
  FILE *out = fopen(part, "w");
  if (!out) return 1;
  fprintf(out, "%d\n", ntohs(address.sin_port));
  fclose(out);
  if (rename(part, port_file)) return 1;

  int signal;
  sigwait(&end, &signal);
  struct quire_stats stats;
  if (quire_stats(&stats)) return 1;
  // The table is still full: what the statistics call live must at least hold its entries.
  size_t entries = 0, bytes = 0;
  for (int s = 0; s < SHARDS; s++) {
    pthread_mutex_lock(&shards[s].lock);
    for (int b = 0; b < BUCKETS; b++) {
      for (struct entry *e = shards[s].buckets[b]; e; e = e->next) {
        entries++;
        bytes += sizeof *e + e->key_length + e->value_length;
      }
    }
  }
  printf("%zu entries, %zu bytes, live %zu\n", entries, bytes, (size_t)stats.live);
  expect("server's malloc is quire", stats.live >= bytes && stats.live < bytes * 2 + (64u << 20));
  return expect_failures != 0;
}

/* ---- the client ---- */

static int exchange(int fd, uint32_t operation, const char *key, const char *value, uint32_t length,
                    struct header *h, char **body) {
  return send_message(fd, operation, key, (uint32_t)strlen(key), value, length) &&
         receive_message(fd, h, body);
}

static int load(unsigned port, uint64_t seed, unsigned count) {
  enum { KEYS = 400 };
  struct {
    char *value; // NULL where there is none
    uint32_t length;
  } model[KEYS];
  memset(model, 0, sizeof model);
  struct sockaddr_in address = loopback(port);
  int fd = socket(AF_INET, SOCK_STREAM, 0), wrong = 0;
  if (connect(fd, (struct sockaddr *)&address, sizeof address)) {
    perror("connect");
    return 1;
  }
  uint64_t state = seed;
  for (unsigned i = 0; i < count + KEYS && !wrong; i++) {
    // At the end each key is read once more.
    unsigned slot = i < count ? expect_random(&state) % KEYS : i - count;
    unsigned what = i < count ? expect_random(&state) % 10 : 9;
    char key[64], *body;
    struct header h;
    snprintf(key, sizeof key, "client %llu key %u", (unsigned long long)seed, slot);
    if (what < 5) {
      int append = what == 4 && model[slot].length < 100000;
      uint32_t kind = expect_random(&state) % 100;
      uint32_t length = expect_random(&state) % (kind < 90 ? 600 : kind < 99 ? 20000 : 400000);
      char *value = malloc(length + 1);
      expect_fill(value, length, i);
      if (!exchange(fd, append ? APPEND : SET, key, value, length, &h, &body)) return 1;
      wrong = h.operation != YES;
      uint32_t kept = append ? model[slot].length : 0;
      model[slot].value = realloc(model[slot].value, kept + length + 1);
      memcpy(model[slot].value + kept, value, length);
      model[slot].length = kept + length;
      free(value);
    } else if (what == 5) {
      if (!exchange(fd, REMOVE, key, NULL, 0, &h, &body)) return 1;
      wrong = (h.operation == YES) != (model[slot].value != NULL);
      free(model[slot].value);
      model[slot].value = NULL;
      model[slot].length = 0;
    } else {
      if (!exchange(fd, GET, key, NULL, 0, &h, &body)) return 1;
      wrong = (h.operation == YES) != (model[slot].value != NULL) ||
              h.value_length != model[slot].length ||
              memcmp(body, model[slot].value ? model[slot].value : "", model[slot].length);
    }
    if (wrong) printf("wrong answer to request %u: operation %u, key %s\n", i, what, key);
    free(body);
  }
  close(fd);
  char name[64];
  snprintf(name, sizeof name, "client %llu, every answer right", (unsigned long long)seed);
  expect(name, !wrong);
  return wrong;
}

int main(int argc, char **argv) {
  if (argc == 3 && !strcmp(argv[1], "serve")) return serve(argv[2]);
  if (argc == 5 && !strcmp(argv[1], "load"))
    return load((unsigned)atoi(argv[2]), strtoull(argv[3], NULL, 10), (unsigned)atoi(argv[4]));
  fprintf(stderr, "usage: server serve PORTFILE | server load PORT SEED COUNT\n");
  return 2;
}
