/* The files of page/, as they were when this was built. */
#ifndef QUIRE_TOOLS_EMBED_H
#define QUIRE_TOOLS_EMBED_H

extern const char embed_body[], embed_style[], embed_script[]; /* NUL-terminated */

#endif
