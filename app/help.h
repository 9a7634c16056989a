/* help — every help text there is, made from the table of commands and the table of keys. */
#ifndef NSSM_HELP_H
#define NSSM_HELP_H

#include <stdio.h>

#include "app/cmd.h"

/* cmds: ends with NULL. */
void nssm_help_all(FILE *out, const struct nssm_cmd *const *cmds);
/* width 0: that of the terminal behind out, 80 where there is none. */
void nssm_help_cmd(FILE *out, const struct nssm_cmd *cmd, int width);
/* netssm(1) as roff, ASCII only. */
void nssm_help_man(FILE *out, const struct nssm_cmd *const *cmds);

#endif
