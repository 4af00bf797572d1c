/* quire export: an HTTP server for a scraper. Every request reads all processes anew; one at a
 * time, so that many scrapers together cost no more than one. */
#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tools/quire/cli.h"
#include "tools/quire/fleet.h"

enum { OPTION_LISTEN = 1000, OPTION_NO_KERNEL, OPTION_JSON };

struct server {
  bool with_kernel;
  bool json; /* say where it listens as JSON */
};

/* ---- the text ---- */

static void gauge(FILE *out, const char *name, const char *help, unsigned value) {
  fprintf(out, "# HELP quire_%s %s\n# TYPE quire_%s gauge\nquire_%s %u\n", name, help, name, name,
          value);
}

/* NULL without memory; to be freed. */
static char *metrics(const struct server *server, size_t *length) {
  struct fleet fleet = {.with_kernel = server->with_kernel};
  char *text = NULL;
  FILE *out = open_memstream(&text, length);
  if (out == NULL) return NULL;
  (void)fleet_read(&fleet);
  gauge(out, "processes", "Processes that run quire and could be read.", fleet.n);
  gauge(out, "processes_unreadable", "Processes that run quire and could not be read.",
        fleet.unreadable);
  report_metrics(fleet.reports, fleet.n, out);
  fleet_free(&fleet);
  if (fclose(out) == 0) return text;
  free(text);
  return NULL;
}

/* ---- HTTP ---- */

static enum MHD_Result reply(struct MHD_Connection *connection, unsigned status, const char *type,
                             char *text, size_t length, enum MHD_ResponseMemoryMode mode) {
  struct MHD_Response *response = MHD_create_response_from_buffer(length, text, mode);
  if (response == NULL) {
    if (mode == MHD_RESPMEM_MUST_FREE) free(text);
    return MHD_NO;
  }
  (void)MHD_add_response_header(response, "Content-Type", type);
  enum MHD_Result result = MHD_queue_response(connection, status, response);
  MHD_destroy_response(response);
  return result;
}

static enum MHD_Result reply_static(struct MHD_Connection *connection, unsigned status,
                                    const char *text) {
  return reply(connection, status, "text/plain; charset=utf-8", (char *)(uintptr_t)text,
               strlen(text), MHD_RESPMEM_PERSISTENT);
}

static enum MHD_Result answer(void *arg, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_size, void **state) {
  static int seen;
  (void)version, (void)upload;
  /* The first call brings the headers alone; what somebody sends along is thrown away. */
  if (*state == NULL) {
    *state = &seen;
    return MHD_YES;
  }
  if (*upload_size != 0) {
    *upload_size = 0;
    return MHD_YES;
  }
  if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
    return reply_static(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
  if (strcmp(url, "/") == 0)
    return reply_static(connection, MHD_HTTP_OK, "quire export: see /metrics\n");
  if (strcmp(url, "/metrics") != 0)
    return reply_static(connection, MHD_HTTP_NOT_FOUND, "there is /metrics alone\n");
  size_t length = 0;
  char *text = metrics(arg, &length);
  if (text == NULL)
    return reply_static(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "no memory for it\n");
  return reply(connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", text, length,
               MHD_RESPMEM_MUST_FREE);
}

/* ---- listening ---- */

/* "ADDRESS:PORT", "[ADDRESS]:PORT" or ":PORT", numbers alone; of loopback without an address. */
static bool parse_address(const char *text, struct sockaddr_storage *out, socklen_t *length) {
  char host[64], *at;
  const char *colon = strrchr(text, ':');
  struct addrinfo *list, hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                                  .ai_socktype = SOCK_STREAM};
  if (colon == NULL || colon[1] == 0 || (size_t)(colon - text) >= sizeof host) return false;
  snprintf(host, sizeof host, "%.*s", (int)(colon - text), text);
  at = host;
  if (*at == '[' && strchr(at, ']') != NULL) *strchr(++at, ']') = 0;
  if (getaddrinfo(*at == 0 ? "127.0.0.1" : at, colon + 1, &hints, &list) != 0) return false;
  memcpy(out, list->ai_addr, list->ai_addrlen);
  *length = list->ai_addrlen;
  freeaddrinfo(list);
  return true;
}

static int open_socket(const struct sockaddr_storage *address, socklen_t length) {
  int yes = 1, fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(fd, (const struct sockaddr *)address, length) == 0 && listen(fd, 16) == 0) return fd;
  int err = errno;
  close(fd);
  errno = err;
  return -1;
}

/* Of the port that the system chose, too. */
static void announce(int fd, bool json) {
  struct sockaddr_storage address;
  socklen_t length = sizeof address;
  char host[64] = "?", port[16] = "?";
  if (getsockname(fd, (struct sockaddr *)&address, &length) == 0)
    (void)getnameinfo((struct sockaddr *)&address, length, host, sizeof host, port, sizeof port,
                      NI_NUMERICHOST | NI_NUMERICSERV);
  bool v6 = address.ss_family == AF_INET6;
  printf(json ? "{\"url\": \"http://%s%s%s:%s/metrics\"}\n"
              : "quire export: http://%s%s%s:%s/metrics\n",
         v6 ? "[" : "", host, v6 ? "]" : "", port);
  fflush(stdout);
}

/* Until somebody ends it. The signals are blocked before there is a second thread. */
static int serve(const struct command *command, int fd, struct server *server) {
  sigset_t ends;
  int signal_number;
  sigemptyset(&ends);
  sigaddset(&ends, SIGINT);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGHUP);
  sigprocmask(SIG_BLOCK, &ends, NULL);
  signal(SIGPIPE, SIG_IGN);
  struct MHD_Daemon *daemon = MHD_start_daemon(
      MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, answer, server, MHD_OPTION_LISTEN_SOCKET, fd,
      MHD_OPTION_CONNECTION_LIMIT, 32u, MHD_OPTION_CONNECTION_TIMEOUT, 10u, MHD_OPTION_END);
  if (daemon == NULL) return cli_fail(command, STATUS_FAILED, "the HTTP server does not start");
  announce(fd, server->json);
  (void)sigwait(&ends, &signal_number);
  MHD_stop_daemon(daemon);
  return STATUS_OK;
}

static int run(const struct command *command, int argc, char **argv) {
  static const struct option longs[] = {{"listen", required_argument, NULL, OPTION_LISTEN},
                                        {"no-kernel", no_argument, NULL, OPTION_NO_KERNEL},
                                        {"json", no_argument, NULL, OPTION_JSON},
                                        {0}};
  const char *where = "127.0.0.1:9745";
  struct server server = {.with_kernel = true};
  struct sockaddr_storage address;
  socklen_t length;
  int option;
  while ((option = cli_option(command, argc, argv, ":", longs)) != -1) {
    if (option == OPTION_LISTEN)
      where = optarg;
    else if (option == OPTION_JSON)
      server.json = true;
    else
      server.with_kernel = false;
  }
  if (optind < argc) cli_usage(command, "'%s' is too much", argv[optind]);
  if (!parse_address(where, &address, &length))
    cli_usage(command, "'%s' is not ADDRESS:PORT, in numbers", where);
  int fd = open_socket(&address, length);
  if (fd < 0) return cli_fail(command, STATUS_FAILED, "%s: %s", where, strerror(errno));
  return serve(command, fd, &server);
}

const struct command command_export = {
    .name = "export",
    .summary = "serve the numbers of all processes to Prometheus",
    .usage = "[--listen=ADDRESS:PORT] [--no-kernel] [--json]",
    .help =
        "Serves the numbers of all processes of this machine that run quire, and that it may "
        "read,\n"
        "by HTTP in Prometheus' exposition format, at /metrics. Each request reads them anew. It\n"
        "listens on loopback unless told otherwise, knows no passwords and no encryption: what\n"
        "listens elsewhere belongs behind something that does. Ends by SIGINT, SIGTERM or "
        "SIGHUP.\n\n"
        "      --listen=ADDRESS:PORT  127.0.0.1:9745 unless said; port 0 lets the system choose\n"
        "      --no-kernel            without the kernel's numbers (PSS), which cost it a walk "
        "over\n"
        "                             each process's page tables\n"
        "      --json                 say where as a JSON object: {\"url\": ...}\n"
        "      --help                 this text\n\n"
        "examples:\n"
        "  quire export\n"
        "  quire export --listen=[::1]:9745 --no-kernel\n"
        "  curl -s http://127.0.0.1:9745/metrics | grep quire_live_bytes\n",
    .status = "0 ended by a signal, 1 it can't listen there",
    .statuses = CLI_STATUS_USAGE,
    .run = run,
};
