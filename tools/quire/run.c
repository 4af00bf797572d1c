/* quire run: starts a program on quire, or says why that can't be.
 *
 * The dynamic loader ignores what it can't preload, mostly without a word: so all that it would
 * ignore is looked for first. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "alloc/options.h"
#include "tools/quire/cli.h"
#include "tools/quire/elf.h"

enum { CONF_MAX = 4096, INTERPRETERS_MAX = 4, CANNOT_RUN = 126, NOT_FOUND = 127 };
enum { OPTION_LIBRARY = 1000, OPTION_PRINT, OPTION_JSON, OPTION_FORCE, OPTION_FIRST };

#ifndef QUIRE_LIBDIR
#define QUIRE_LIBDIR "/usr/local/lib"
#endif

/* ---- the library ---- */

static bool is_file(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, R_OK) == 0;
}

/* Beside this command, as in a build; in the lib beside its bin, as installed; where it was to be
 * installed. */
static bool find_library(char out[PATH_MAX]) {
  static const char *const beside[] = {"libquire.so", "../lib/libquire.so.0", "../lib/libquire.so"};
  char self[PATH_MAX], path[2 * PATH_MAX];
  ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
  self[n > 0 ? n : 0] = 0;
  char *slash = strrchr(self, '/');
  if (slash != NULL) {
    slash[1] = 0;
    for (unsigned i = 0; i < sizeof beside / sizeof beside[0]; i++) {
      snprintf(path, sizeof path, "%s%s", self, beside[i]);
      if (is_file(path) && realpath(path, out) != NULL) return true;
    }
  }
  return is_file(QUIRE_LIBDIR "/libquire.so.0") &&
         realpath(QUIRE_LIBDIR "/libquire.so.0", out) != NULL;
}

/* ---- the options ---- */

static unsigned complaints;

static void complain(const char *line) {
  fputs(line, stderr);
  complaints++;
}

static void add_conf(const struct command *command, char conf[CONF_MAX], const char *more) {
  size_t at = strlen(conf);
  int n = snprintf(conf + at, CONF_MAX - at, "%s%s", at > 0 ? "," : "", more);
  if (n < 0 || (size_t)n >= CONF_MAX - at) cli_usage(command, "the options are too long");
}

static void add_option(const struct command *command, char conf[CONF_MAX], unsigned index,
                       const char *value) {
  char entry[512];
  struct option_text o;
  (void)option_text(index, &o);
  if (strchr(value, ',') != NULL) cli_usage(command, "--%s=%s: one value, please", o.name, value);
  snprintf(entry, sizeof entry, "%s:%s", o.name, value);
  add_conf(command, conf, entry);
}

/* ---- the program ---- */

/* As execvp would find it. */
static bool find_program(const char *name, char out[PATH_MAX]) {
  if (strchr(name, '/') != NULL) {
    snprintf(out, PATH_MAX, "%s", name);
    return access(name, F_OK) == 0;
  }
  const char *path = getenv("PATH");
  if (path == NULL) path = "/usr/local/bin:/usr/bin:/bin";
  while (*name != 0) {
    size_t n = strcspn(path, ":");
    snprintf(out, PATH_MAX, "%.*s%s%s", (int)n, path, n > 0 ? "/" : "./", name);
    if (is_file(out) && access(out, X_OK) == 0) return true;
    if (path[n] == 0) return false;
    path += n + 1;
  }
  return false;
}

/* Would starting it give it rights that we have not? Then the loader ignores LD_PRELOAD. */
static const char *gains_rights(const char *path) {
  struct stat st;
  struct statvfs fs;
  char capabilities[64];
  if (stat(path, &st) != 0) return NULL;
  if (statvfs(path, &fs) == 0 && (fs.f_flag & ST_NOSUID) != 0) return NULL;
  if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1) return NULL;
  if ((st.st_mode & S_ISUID) && st.st_uid != getuid()) return "is setuid";
  if ((st.st_mode & S_ISGID) && (st.st_mode & S_IXGRP) && st.st_gid != getgid()) return "is setgid";
  if (getuid() != 0 && getxattr(path, "security.capability", capabilities, sizeof capabilities) > 0)
    return "has file capabilities";
  return NULL;
}

/* The interpreter that a script names in its first line. */
static bool interpreter_of(int fd, char out[PATH_MAX]) {
  char line[PATH_MAX];
  ssize_t n = pread(fd, line, sizeof line - 1, 0);
  if (n < 3 || line[0] != '#' || line[1] != '!') return false;
  line[n] = 0;
  char *at = line + 2 + strspn(line + 2, " \t");
  at[strcspn(at, " \t\r\n")] = 0;
  snprintf(out, PATH_MAX, "%s", at);
  return *at != 0;
}

/* Why it can't be preloaded, into `why`; false when it can. */
static bool refuses(const char *program, char *why, size_t size) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s", program);
  for (int depth = 0; depth < INTERPRETERS_MAX; depth++) {
    const char *rights = gains_rights(path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false; /* not readable: only starting it tells */
    enum elf_kind kind = elf_kind_of(fd);
    bool script = kind == ELF_NOT && interpreter_of(fd, path);
    close(fd);
    if (script) continue; /* the kernel looks at the rights of the interpreter alone */
    why[0] = 0;
    if (rights != NULL)
      snprintf(why, size,
               "%s %s: the dynamic loader preloads nothing into programs that gain rights. Run it "
               "as the user whose rights it gets, or add the library to /etc/ld.so.preload.",
               path, rights);
    else if (kind == ELF_STATIC)
      snprintf(why, size,
               "%s is linked statically: it has no dynamic loader that could preload anything. "
               "Link it with libquire.a instead.",
               path);
    else if (kind == ELF_FOREIGN)
      snprintf(why, size, "%s is a program of another architecture than this quire.", path);
    return why[0] != 0;
  }
  return false;
}

/* ---- all ---- */

static void print_plan(const char *preload, const char *conf, char **argv) {
  printf("LD_PRELOAD='%s'", preload);
  if (*conf != 0) printf(" QUIRE_CONF='%s'", conf);
  for (; *argv != NULL; argv++) printf(" %s", *argv);
  putchar('\n');
}

static json_t *plan_json(const char *preload, const char *conf, char **argv) {
  json_t *o = json_object(), *environment = json_object(), *list = json_array();
  (void)json_object_set_new(environment, "LD_PRELOAD", cli_json_text(preload));
  if (*conf != 0) (void)json_object_set_new(environment, "QUIRE_CONF", cli_json_text(conf));
  for (; *argv != NULL; argv++) (void)json_array_append_new(list, cli_json_text(*argv));
  (void)json_object_set_new(o, "environment", environment);
  (void)json_object_set_new(o, "arguments", list);
  return o;
}

static void set_preload(const struct command *command, const char *library, char *out,
                        size_t size) {
  const char *before = getenv("LD_PRELOAD");
  if (strpbrk(library, ": ") != NULL)
    cli_usage(command, "%s: LD_PRELOAD can't name files with blanks or colons in their path",
              library);
  int n = before != NULL && *before != 0 ? snprintf(out, size, "%s:%s", library, before)
                                         : snprintf(out, size, "%s", library);
  if (n < 0 || (size_t)n >= size) cli_usage(command, "LD_PRELOAD is too long");
}

static void check_conf(const struct command *command, const char *conf) {
  options_parse(conf, complain);
  if (complaints > 0) cli_usage(command, "nothing was started");
}

enum printing { PRINT_NOTHING, PRINT_TEXT, PRINT_JSON };

static int start(const struct command *command, const char *library, const char *conf,
                 enum printing print, bool force, char **argv) {
  char program[PATH_MAX], why[2 * PATH_MAX], preload[2 * PATH_MAX];
  if (!find_program(argv[0], program))
    return cli_fail(command, NOT_FOUND, "%s: there is no such program", argv[0]);
  if (!force && refuses(program, why, sizeof why)) return cli_fail(command, CANNOT_RUN, "%s", why);
  set_preload(command, library, preload, sizeof preload);
  if (print == PRINT_JSON) return cli_print_json(command, plan_json(preload, conf, argv));
  if (print == PRINT_TEXT) {
    print_plan(preload, conf, argv);
    return cli_finish(command, STATUS_OK);
  }
  if (setenv("LD_PRELOAD", preload, 1) != 0 || (*conf != 0 && setenv("QUIRE_CONF", conf, 1) != 0))
    return cli_fail(command, CANNOT_RUN, "no memory for the environment");
  execv(program, argv);
  return cli_fail(command, errno == ENOENT ? NOT_FOUND : CANNOT_RUN, "%s: %s", program,
                  strerror(errno));
}

static int run(const struct command *command, int argc, char **argv) {
  enum { OWN = 5, MOST = 48 };
  struct option longs[MOST] = {{"option", required_argument, NULL, 'o'},
                               {"library", required_argument, NULL, OPTION_LIBRARY},
                               {"print", no_argument, NULL, OPTION_PRINT},
                               {"json", no_argument, NULL, OPTION_JSON},
                               {"force", no_argument, NULL, OPTION_FORCE}};
  char conf[CONF_MAX] = "", library[PATH_MAX] = "";
  enum printing print = PRINT_NOTHING;
  bool force = false;
  struct option_text text;
  int option;
  for (unsigned i = 0; option_text(i, &text) && OWN + i < MOST - 1; i++)
    longs[OWN + i] = (struct option){text.name, required_argument, NULL, OPTION_FIRST + (int)i};
  if (getenv("QUIRE_CONF") != NULL && *getenv("QUIRE_CONF") != 0)
    add_conf(command, conf, getenv("QUIRE_CONF"));
  while ((option = cli_option(command, argc, argv, "+:o:", longs)) != -1) {
    if (option == 'o')
      add_conf(command, conf, optarg);
    else if (option == OPTION_PRINT)
      print = PRINT_TEXT;
    else if (option == OPTION_JSON)
      print = PRINT_JSON;
    else if (option == OPTION_FORCE)
      force = true;
    else if (option == OPTION_LIBRARY && realpath(optarg, library) == NULL)
      return cli_fail(command, STATUS_FAILED, "%s: %s", optarg, strerror(errno));
    else if (option >= OPTION_FIRST)
      add_option(command, conf, (unsigned)(option - OPTION_FIRST), optarg);
  }
  if (optind >= argc) cli_usage(command, "which program?");
  check_conf(command, conf);
  if (*library == 0 && !find_library(library))
    return cli_fail(command, STATUS_FAILED,
                    "libquire.so is neither beside this command nor in " QUIRE_LIBDIR
                    ": name it with --library");
  return start(command, library, conf, print, force, argv + optind);
}

/* From the allocator's own table. */
static void list_options(FILE *out) {
  struct option_text o;
  char line[128];
  fputs("\noptions of the allocator:\n", out);
  for (unsigned i = 0; option_text(i, &o); i++) {
    if (o.choices[0] != 0)
      snprintf(line, sizeof line, "--%s=%s", o.name, o.choices);
    else
      snprintf(line, sizeof line, "--%s=%s", o.name, strcmp(o.kind, "size") == 0 ? "SIZE" : "N");
    fprintf(out, "  %s\n", line);
    cli_wrap(out, 8, 92, o.text);
  }
}

const struct command command_run = {
    .name = "run",
    .summary = "start a program on quire",
    .usage = "[OPTION]... PROGRAM [ARGUMENT]...",
    .help =
        "Starts a program with quire as its malloc: sets LD_PRELOAD and QUIRE_CONF, and executes\n"
        "it. Says why where that can't be: programs that are linked statically, that gain rights\n"
        "when they are started (setuid, file capabilities), or of another architecture; of a\n"
        "script, its interpreter is looked at. Children of the program get quire too.\n\n"
        "  -o, --option=NAME:VALUE[,...]  an option of the allocator; also as --NAME=VALUE:\n"
        "                                 --compact=aggressive (they are listed below)\n"
        "      --library=FILE             another libquire.so\n"
        "      --print                    print what would be run, run nothing\n"
        "      --json                     the same as a JSON object\n"
        "      --force                    run it also where it would not get quire\n"
        "      --help                     this text\n\n"
        "Options in QUIRE_CONF stand; what is given here comes after them.\n\n"
        "examples:\n"
        "  quire run redis-server --port 7777\n"
        "  quire run --compact=aggressive --stats=on python3 script.py\n"
        "  quire run -o check:on,background:off ./program\n",
    .status =
        "the program's; 1 there is no library, 2 wrong options, 126 it can't get quire or can't be "
        "executed, 127 there is no such program",
    .statuses = CLI_STATUS_OWN,
    .more_help = list_options,
    .run = run,
};
