/* Looking around in a picture in the terminal: `quire map -i`. */
#ifndef QUIRE_TOOLS_BROWSE_H
#define QUIRE_TOOLS_BROWSE_H

#include "tools/quire/cli.h"
#include "tools/quire/terminal.h"

/* Of a process (a number) or a recording, first `at` seconds after its beginning (negative: at its
 * end). Returns when the user has enough: an enum status. */
int browse(const struct command *command, const char *source, double at, struct terminal *terminal);

#endif
