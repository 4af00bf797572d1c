/* The assembler puts the files in; the Makefile knows that this depends on them. */
#include "tools/quire/embed.h"

#define BEGIN(name)                                                                                \
  ".pushsection .rodata\n"                                                                         \
  ".global " name "\n"                                                                             \
  ".hidden " name "\n" name ":\n"
#define FILE(path) ".incbin \"tools/quire/page/" path "\"\n"
#define END                                                                                        \
  ".byte 0\n"                                                                                      \
  ".popsection\n"

__asm__(BEGIN("embed_body") FILE("body.html") END);
__asm__(BEGIN("embed_style") FILE("style.css") END);
/* In the order in which they use each other. */
__asm__(BEGIN("embed_script") FILE("recording.js") FILE("heap.js") FILE("canvas.js")
            FILE("timeline.js") FILE("view.js") END);
