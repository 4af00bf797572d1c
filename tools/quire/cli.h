/* What all subcommands share: their table, options, and how they speak. */
#ifndef QUIRE_TOOLS_CLI_H
#define QUIRE_TOOLS_CLI_H

#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "tools/quire/process.h"

/* Exit statuses (enum status) that a subcommand has, beyond those that it tells of itself. */
enum cli_statuses {
  CLI_STATUS_OWN,     /* none */
  CLI_STATUS_USAGE,   /* wrong usage */
  CLI_STATUS_PROCESS, /* that, and what can be wrong with a process */
};

struct command {
  const char *name;
  const char *summary; /* one line */
  const char *usage;   /* "[OPTION]... PID" */
  const char *help;    /* what it does, its options, examples: as --help prints it */
  const char *status;  /* what its exit status says of it alone: "0, 1 it could not be read" */
  enum cli_statuses statuses;   /* and what like all others' */
  void (*more_help)(FILE *out); /* what --help prints behind that; NULL: nothing */
  /* argv[0] is the subcommand's name. Returns an enum status, or what `run` ran does. */
  int (*run)(const struct command *command, int argc, char **argv);
};

extern const struct command command_run, command_doctor, command_stat, command_top, command_export,
    command_compact, command_purge;
extern const struct command command_map, command_record;

/* What --help prints. */
void cli_help(const struct command *command, FILE *out);

/* The man page quire(1), made of what all --help texts say. */
void cli_man(FILE *out);

/* "no such process (any more)"; NULL: there is no such status. */
const char *cli_status_text(unsigned status);

/* NULL past the end. In the order in which they are listed. */
const struct command *cli_command(unsigned index);

/* getopt_long for a subcommand: --help is answered here and ends the program, as do wrong options,
 * with STATUS_USAGE. `longs` ends with zeros and need not have help. -1 at the end. */
int cli_option(const struct command *command, int argc, char **argv, const char *shorts,
               const struct option *longs);

/* Ends the program, telling how it is to be used. */
_Noreturn __attribute__((format(printf, 2, 3))) void cli_usage(const struct command *command,
                                                               const char *format, ...);

/* "quire stat: ..." on standard error. Returns the status given. */
__attribute__((format(printf, 3, 4))) int cli_fail(const struct command *command, int status,
                                                   const char *format, ...);

/* Does a source of snapshots name a process, by its number? Else it is a recording; ends the
 * program when there is no such file either. */
bool cli_is_process(const struct command *command, const char *source);

/* The one argument left, a process number; ends the program when it isn't. */
pid_t cli_pid(const struct command *command, int argc, char **argv);

/* The same of any argument. */
pid_t cli_number(const struct command *command, const char *text);

/* Opens it, or says why not. */
int cli_open(const struct command *command, pid_t pid, struct process *out);

/* A number of seconds ("2", "0.5") in milliseconds, 100 at least; ends the program when it isn't.
 */
unsigned cli_seconds(const struct command *command, const char *text);

/* Flushes standard output: STATUS_FAILED when not all could be written, else `status`. */
int cli_finish(const struct command *command, int status);

/* ---- for programs ---- */

/* A string of any bytes (names are bytes to the kernel): where they are no UTF-8, with question
 * marks for what isn't ASCII. NULL without memory. */
json_t *cli_json_text(const char *text);

/* Prints it, frees it, and finishes. NULL is said to be lack of memory. */
int cli_print_json(const struct command *command, json_t *what);

/* ---- for people ---- */

/* "1023 B", "1.5 KiB", "12.3 MiB". */
const char *cli_bytes(uint64_t bytes, char out[24]);

/* The words of a text in lines of at most `width` columns that begin in column `indent`. */
void cli_wrap(FILE *out, unsigned indent, unsigned width, const char *text);

/* Per cent that part is of whole; 0 of nothing. */
double cli_share(uint64_t part, uint64_t whole);

/* Colours, empty where the stream is no terminal, TERM=dumb, or NO_COLOR is set and not empty. */
enum cli_style { CLI_PLAIN, CLI_BOLD, CLI_DIM, CLI_GOOD, CLI_WARN, CLI_BAD };
const char *cli_style(FILE *stream, enum cli_style style);
bool cli_may_colour(FILE *stream);

#endif
