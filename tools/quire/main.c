/* quire: look at the heaps of programs that run on quire. Each subcommand has a file of its own. */
#include <stdlib.h>
#include <string.h>

#include "tools/quire/cli.h"

static const struct command *const commands[] = {
    &command_run,     &command_doctor, &command_stat, &command_top,    &command_export,
    &command_compact, &command_purge,  &command_map,  &command_record,
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

const struct command *cli_command(unsigned index) {
  return index < COMMANDS ? commands[index] : NULL;
}

static void print_overview(FILE *out) {
  fputs("usage: quire COMMAND [OPTION]... [ARGUMENT]...\n\n"
        "Looks at the heaps of programs that run on the quire allocator, from outside and while\n"
        "they run.\n\n",
        out);
  for (unsigned i = 0; i < COMMANDS; i++)
    fprintf(out, "  %-9s%s\n", commands[i]->name, commands[i]->summary);
  fputs("\n'quire COMMAND --help' tells of each, with examples; 'quire --version' the version.\n\n"
        "exit status:\n",
        out);
  for (unsigned s = 0; cli_status_text(s) != NULL; s++)
    fprintf(out, "  %u  %s\n", s, cli_status_text(s));
}

static const struct command *find(const char *name) {
  for (unsigned i = 0; i < COMMANDS; i++)
    if (strcmp(commands[i]->name, name) == 0) return commands[i];
  return NULL;
}

int main(int argc, char **argv) {
  if (argc < 2) {
    print_overview(stderr);
    return STATUS_USAGE;
  }
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
    print_overview(stdout);
    return fflush(stdout) == 0 ? STATUS_OK : STATUS_FAILED;
  }
  if (strcmp(argv[1], "--version") == 0) {
    puts("quire " QUIRE_VERSION);
    return fflush(stdout) == 0 ? STATUS_OK : STATUS_FAILED;
  }
  if (strcmp(argv[1], "--man") == 0) { /* for the Makefile */
    cli_man(stdout);
    return fflush(stdout) == 0 ? STATUS_OK : STATUS_FAILED;
  }
  const struct command *command = find(argv[1]);
  if (command == NULL) {
    fprintf(stderr, "quire: there is no command '%s'. Try 'quire --help'.\n", argv[1]);
    return STATUS_USAGE;
  }
  return command->run(command, argc - 1, argv + 1);
}
