/* What a machine and a process permit, and what each gap costs: the checks, and what they say. */
#ifndef QUIRE_TOOLS_DOCTOR_H
#define QUIRE_TOOLS_DOCTOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tools/quire/report.h"

/* Whom it is about: a process, or, with pid 0, a program that this user starts here. */
struct patient {
  pid_t pid;
  uid_t uid;
  uint64_t capabilities;                 /* effective */
  int seccomp;                           /* mode; -1 unknown */
  uint64_t address_space, locked_memory; /* soft limits in bytes; UINT64_MAX: none */
  char group[512];                       /* directory of its control group; "" without */
  bool counted;                          /* it, or one of version 1, counts memory: */
  uint64_t group_used, group_limit;      /* UINT64_MAX: none */
  char unit[128];                        /* systemd's unit, "" when it is none */
  bool runs_quire;
  struct report report; /* if so */
};

enum finding_state { FINDING_GOOD, FINDING_NOTE, FINDING_GAP };

enum { FIXES_MAX = 4, FIX_LENGTH = 200 };

struct finding {
  const char *name; /* a word or two; also JSON's */
  enum finding_state state;
  int value;                       /* the larger, the more is to be gained by closing the gap */
  char found[256];                 /* what is so */
  char cost[320];                  /* what that costs; "" for nothing */
  char fix[FIXES_MAX][FIX_LENGTH]; /* commands and lines for unit files; "" ends */
};

enum { FINDINGS_MAX = 24 };

/* Fills in what is to be known of a process. False with errno when there is none. */
bool patient_read(struct patient *patient, pid_t pid);

/* All checks; the most valuable gaps first, then notes, then what is good. Returns how many. */
unsigned doctor_check(const struct patient *patient, struct finding findings[FINDINGS_MAX]);

#endif
