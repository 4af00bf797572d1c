/* The man page, from the same texts as --help: they can't disagree. */
#include <stdlib.h>
#include <string.h>

#include "tools/quire/cli.h"

static const char head[] =
    ".TH QUIRE 1 \"\" \"quire " QUIRE_VERSION "\" \"User Commands\"\n"
    ".SH NAME\n"
    "quire \\- look at the heaps of programs that run on the quire allocator\n"
    ".SH SYNOPSIS\n";

static const char description[] =
    ".SH DESCRIPTION\n"
    ".B quire\n"
    "starts programs on the quire allocator and looks at their heaps, from outside and while they\n"
    "run.\n"
    "It reads their memory with\n"
    ".BR process_vm_readv (2)\n"
    "by the header that\n"
    ".BR quire (3)\n"
    "publishes; no program is stopped, none is asked for anything, and none has to be built for "
    "it.\n"
    "What is read is checked, so that a program that allocates, forks or ends meanwhile makes at\n"
    "worst an error here.\n"
    "Only\n"
    ".B compact\n"
    "and\n"
    ".BR purge ,\n"
    "and the keys of\n"
    ".B top\n"
    "that do the same, reach into a program: they ask its background thread through one page of\n"
    "memory that it shares for this.\n"
    ".PP\n"
    ".B map\n"
    "and\n"
    ".B stat\n"
    "show the recordings of\n"
    ".B record\n"
    "too, also on other machines. A file whose name is a number is ./NUMBER.\n"
    ".PP\n"
    "To be read, a process must belong to the user, and\n"
    ".I kernel.yama.ptrace_scope\n"
    "be 0; or one must be root, or have\n"
    ".BR CAP_SYS_PTRACE .\n"
    "Processes in containers are read from outside like others.\n"
    ".SH COMMANDS\n";

static const char tail[] =
    ".PP\n"
    ".B quire run\n"
    "ends as the program does, with 126 where that can\\(cqt be run on quire, and 127 where there "
    "is\n"
    "none.\n"
    ".SH ENVIRONMENT\n"
    ".TP\n.B NO_COLOR\nset and not empty: no colours. There are none either where output goes to "
    "no "
    "terminal, or\n.B TERM\nis \(lqdumb\(rq.\n"
    ".TP\n.B COLORTERM\n\(lqtruecolor\(rq or \(lq24bit\(rq: maps have these colours, not the 256\n"
    ".TP\n.B COLORFGBG\nwhether the terminal\(cqs ground is light, for maps; else it is taken for "
    "dark\n"
    ".TP\n.BR COLUMNS \", \" LINES\nhow large maps are that go to no terminal, 80 by 24 otherwise\n"
    ".TP\n.B QUIRE_CONF\noptions of the allocator, which\n.B quire run\nadds to\n"
    ".TP\n.B LD_PRELOAD\nis set by\n.BR \"quire run\" ,\nbefore what it held\n"
    ".SH SEE ALSO\n"
    ".BR quire (3),\n"
    ".BR ld.so (8),\n"
    ".BR process_vm_readv (2),\n"
    ".BR userfaultfd (2)\n";

/* A hyphen is a minus unless escaped; a leading point or quote would be a request. */
static void roff(FILE *out, const char *text) {
  bool begins = true;
  for (; *text != 0; text++) {
    if (begins && (*text == '.' || *text == '\'')) fputs("\\&", out);
    begins = *text == '\n';
    if (*text == '\\')
      fputs("\\e", out);
    else if (*text == '-')
      fputs("\\-", out);
    else if (*text == '\'')
      fputs("\\(aq", out);
    else
      fputc(*text, out);
  }
}

static void man_command(const struct command *command, FILE *out) {
  char *text = NULL;
  size_t length = 0;
  FILE *help = open_memstream(&text, &length);
  if (help == NULL) return;
  cli_help(command, help);
  if (fclose(help) != 0) return;
  fprintf(out, ".SS quire %s\n", command->name);
  roff(out, command->summary);
  fputs(".\n.PP\n.nf\n", out);
  roff(out, text);
  fputs(".fi\n", out);
  free(text);
}

void cli_man(FILE *out) {
  const struct command *command;
  fputs(head, out);
  for (unsigned i = 0; (command = cli_command(i)) != NULL; i++) {
    fprintf(out, "%s.B quire %s\n", i == 0 ? "" : ".br\n", command->name);
    roff(out, command->usage);
    fputc('\n', out);
  }
  fputs(description, out);
  for (unsigned i = 0; (command = cli_command(i)) != NULL; i++) man_command(command, out);
  fputs(".SH EXIT STATUS\n", out);
  for (unsigned i = 0; cli_status_text(i) != NULL; i++) {
    fprintf(out, ".TP\n.B %u\n", i);
    roff(out, cli_status_text(i));
    fputc('\n', out);
  }
  fputs(tail, out);
}
