/* Bounds that snapshot_stats has checked of every class, for who goes on from there. */
#ifndef QUIRE_TOOLS_NUMBERS_H
#define QUIRE_TOOLS_NUMBERS_H

#include "tools/quire/snapshot.h"

enum { NUMBERS_SLOTS_MAX = 1024, NUMBERS_SLAB_FRAMES_MAX = 64 };

#endif
