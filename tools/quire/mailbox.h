/* Asking a process for a purge or a pass of compaction: the other side of struct quire_mailbox. */
#ifndef QUIRE_TOOLS_MAILBOX_H
#define QUIRE_TOOLS_MAILBOX_H

#include "tools/quire/process.h"

struct mailbox {
  struct quire_mailbox *page; /* shared with the process */
  pid_t pid;
};

/* Or says why not: there is no background thread, it has no mailbox, or it may not be opened. */
enum status mailbox_open(struct mailbox *out, struct process *process,
                         char error[PROCESS_ERROR_MAX]);
void mailbox_close(struct mailbox *mailbox);

/* Asks, and returns what to wait for. */
uint32_t mailbox_ask(struct mailbox *mailbox, enum quire_mail what);

enum mailbox_answer { MAILBOX_DONE, MAILBOX_NOT_YET, MAILBOX_GONE };

/* Waits for at most so long; *gained: bytes, as the process counts them. */
enum mailbox_answer mailbox_wait(struct mailbox *mailbox, enum quire_mail what, uint32_t asked,
                                 unsigned ms, uint64_t *gained);

#endif
