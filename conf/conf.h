/* conf — every option there is, in one table: YAML key, command-line flag, type, range, unit, default, help.
 * A value comes from, later wins: the table's default, YAML files (--config, in order), flags.
 * A YAML file holds sections of keys (`model: {d_model: 256}`); "section.name" is the key, "--name" with '-'
 * for '_' the flag. Errors name file and line (or the flag), the key, what is allowed and what was found; an
 * unknown key names the nearest.
 * `--help` and the man page are made from this table. */
#ifndef NSSM_CONF_H
#define NSSM_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

enum nssm_key_type {
	NSSM_T_BOOL,
	NSSM_T_INT, /* suffixes k M G (powers of 1000) allowed */
	NSSM_T_FLOAT,
	NSSM_T_STR,
	NSSM_T_ENUM, /* choices "a|b|c"; value is one of them */
	NSSM_T_LIST, /* strings; the flag may be repeated, YAML gives a sequence or a scalar; commas stay */
	NSSM_T_TIME, /* seconds as a double; suffixes ns us ms s m(in) h d */
};

/* Which commands take a key as a flag; bits. */
enum nssm_cmd_bit {
	NSSM_CMD_PREPARE = 1 << 0,
	NSSM_CMD_TRAIN = 1 << 1,
	NSSM_CMD_GENERATE = 1 << 2,
	NSSM_CMD_INFO = 1 << 3,
	NSSM_CMD_BENCH = 1 << 4,
	NSSM_CMD_REPLAY = 1 << 5,
	NSSM_CMD_RUN = 1 << 6, /* what a profile says; flags for the keys that generate and replay share */
	NSSM_CMD_DECODE = 1 << 7,
	NSSM_CMD_NPRINT = 1 << 8,
	NSSM_CMD_EVAL = 1 << 9,
	NSSM_CMD_LAST = NSSM_CMD_EVAL,
};

/* Key ids NSSM_K_<id> come from conf/keys.def. */
enum nssm_key_id {
#define KEY(id, name, type, min, max, unit, def, choices, cmds, help) NSSM_K_##id,
#include "conf/keys.def"
#undef KEY
	NSSM_N_KEYS
};

struct nssm_key {
	const char *name; /* "train.lr" */
	enum nssm_key_type type;
	double min, max;  /* numbers and times */
	const char *unit; /* "" where there is none; of STR and LIST: what --help calls the value ("FILE") */
	const char *def;  /* NULL: unset */
	const char *choices; /* ENUM */
	unsigned cmds;       /* 0: YAML only */
	const char *help;
};
const struct nssm_key *nssm_conf_key(enum nssm_key_id id);

#define NSSM_FLAG_BYTES 64
/* "train.seq_tokens" → "--seq-tokens". Returns buf. */
char *nssm_conf_flag(char buf[NSSM_FLAG_BYTES], enum nssm_key_id id);
/* What stands after the flag in help: "N", "X", "TIME", "FILE", "auto|ref|avx2"; "" for BOOL. */
const char *nssm_conf_metavar(enum nssm_key_id id);
/* Range, unit and default: "0..10, default 1e-3"; "" where there is nothing to say. Returns buf. */
char *nssm_conf_allowed(char buf[128], enum nssm_key_id id);
/* "train", … of one bit. */
const char *nssm_conf_cmd_name(unsigned bit);

struct nssm_conf;
int nssm_conf_open(struct nssm_conf **c, struct nssm_err *err);
void nssm_conf_close(struct nssm_conf **c);
/* NSSM_EIO: cannot read; NSSM_EFORMAT: anything wrong inside. Values read before the error stay set. */
int nssm_conf_load(struct nssm_conf *c, const char *yaml_path, struct nssm_err *err);
/* From memory; where is for messages. */
int nssm_conf_load_mem(
        struct nssm_conf *c, const char *text, size_t len, const char *where, struct nssm_err *err);
/* Flags of one command; argv[0] is the first word after the command's name. `--name value`, `--name=value`,
 * `--flag`/`--no-flag` for booleans; `--` ends the flags. --config FILE is loaded first wherever it stands.
 * What is no flag is a positional: at most max_pos, given back in pos/n_pos (pointers into argv). `--help` is
 * the caller's: it is unknown here. Errors in flags are NSSM_EARG or NSSM_ERANGE, those in --config's files
 * as nssm_conf_load's. */
int nssm_conf_args(struct nssm_conf *c, unsigned cmd, int argc, char **argv, int max_pos, const char **pos,
        int *n_pos, struct nssm_err *err);
/* One key from text, as a flag would set it (tests, resume). where begins the message; NULL: the flag. */
int nssm_conf_set(
        struct nssm_conf *c, enum nssm_key_id id, const char *text, const char *where, struct nssm_err *err);

bool nssm_conf_is_set(const struct nssm_conf *c, enum nssm_key_id id); /* by a file or flag, not by default */
/* What a message calls the key: "--vlan", or "clone.vlan" if a file gave the value. Returns buf. */
char *nssm_conf_said(char buf[NSSM_FLAG_BYTES], const struct nssm_conf *c, enum nssm_key_id id);
bool nssm_conf_bool(const struct nssm_conf *c, enum nssm_key_id id);
int64_t nssm_conf_int(const struct nssm_conf *c, enum nssm_key_id id);
double nssm_conf_float(const struct nssm_conf *c, enum nssm_key_id id);    /* FLOAT and TIME (seconds) */
const char *nssm_conf_str(const struct nssm_conf *c, enum nssm_key_id id); /* STR, ENUM; NULL if unset */
size_t nssm_conf_list(const struct nssm_conf *c, enum nssm_key_id id, const char *const **items);

/* The flags of one command as help text, wrapped to width columns. */
void nssm_conf_help(FILE *out, unsigned cmd, int width);

#endif
