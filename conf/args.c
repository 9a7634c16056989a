#include "conf/conf.h"

#include <assert.h>
#include <string.h>

#include "conf/conf_priv.h"
#include "conf/nearest.h"

/* What one step through argv found. */
struct arg {
	enum { ARG_POS, ARG_KEY, ARG_CONFIG } kind;
	enum nssm_key_id id;
	const char *flag;  /* as typed, "=value" included */
	const char *value; /* of a positional: itself */
};

struct walk {
	unsigned cmd;
	int argc, at;
	char **argv;
	bool only_pos; /* after `--` */
};

/* Compares a typed flag (up to its '=') with "--name". */
static bool is_flag(const char *typed, size_t n, const char *flag)
{
	return strlen(flag) == n && memcmp(typed, flag, n) == 0;
}

static void negated(char out[NSSM_FLAG_BYTES + 3], enum nssm_key_id id)
{
	char flag[NSSM_FLAG_BYTES];
	snprintf(out, NSSM_FLAG_BYTES + 3, "--no-%s", nssm_conf_flag(flag, id) + 2);
}

static int unknown(const struct walk *w, const char *typed, size_t n, struct nssm_err *err)
{
	char word[NSSM_NEAREST_BYTES], flag[NSSM_FLAG_BYTES], quoted[CONF_QUOTE_MAX], takers[80] = "";
	for (int i = 0; i < NSSM_N_KEYS; i++) {
		unsigned cmds = nssm_conf_key(i)->cmds;
		if (!is_flag(typed, n, nssm_conf_flag(flag, i)))
			continue;
		if (cmds == 0)
			return nssm_err_set(err, NSSM_EARG,
			        "%s: stands only in a file given with --config, as %s", flag,
			        nssm_conf_key(i)->name);
		for (unsigned bit = 1; bit != 0 && bit <= cmds; bit <<= 1) {
			if ((cmds & bit) == 0 || strstr(takers, nssm_conf_cmd_name(bit)) != NULL)
				continue;
			size_t at = strlen(takers);
			snprintf(takers + at, sizeof takers - at, "%s%s", at ? ", " : "",
			        nssm_conf_cmd_name(bit));
		}
	}
	conf_quote(quoted, typed, n);
	if (takers[0] != '\0')
		return nssm_err_set(err, NSSM_EARG, "%s: not a flag of %s; it belongs to: %s", quoted,
		        nssm_conf_cmd_name(w->cmd), takers);
	snprintf(word, sizeof word, "%.*s", (int)(n < sizeof word ? n : sizeof word - 1), typed);
	struct nssm_nearest near;
	nssm_nearest_init(&near, word + strspn(word, "-"));
	for (int i = 0; i < NSSM_N_KEYS; i++)
		if (nssm_conf_key(i)->cmds & w->cmd)
			nssm_nearest_offer(&near, nssm_conf_flag(flag, i) + 2);
	nssm_nearest_offer(&near, "config");
	nssm_nearest_offer(&near, "help");
	const char *best = nssm_nearest_get(&near);
	return nssm_err_set(err, NSSM_EARG, "%s: unknown flag%s%s%s", quoted,
	        best != NULL ? "; did you mean --" : "", best != NULL ? best : "", best != NULL ? "?" : "");
}

/* The value of a flag: behind its '=' or the next word. A next word that begins with "--" is a flag whose
 * predecessor lacks its value, not a value. */
static int take_value(struct walk *w, struct arg *a, const char *name, size_t n, struct nssm_err *err)
{
	if (a->flag[n] == '=') {
		a->value = a->flag + n + 1;
		return 0;
	}
	if (w->at == w->argc)
		return nssm_err_set(err, NSSM_EARG, "%s: needs a value, found the end of the line", name);
	const char *next = w->argv[w->at];
	char quoted[CONF_QUOTE_MAX];
	if (strncmp(next, "--", 2) == 0)
		return nssm_err_set(err, NSSM_EARG,
		        "%s: needs a value, found the flag %s (a value that begins so: %s=%s)", name,
		        conf_quote(quoted, next, strlen(next)), name, quoted);
	a->value = next;
	w->at++;
	return 0;
}

static int take_key(struct walk *w, struct arg *a, size_t n, bool *found, struct nssm_err *err)
{
	*found = true;
	for (int i = 0; i < NSSM_N_KEYS; i++) {
		const struct nssm_key *k = nssm_conf_key(i);
		char flag[NSSM_FLAG_BYTES], no[NSSM_FLAG_BYTES + 3];
		if ((k->cmds & w->cmd) == 0)
			continue;
		a->id = i;
		if (is_flag(a->flag, n, nssm_conf_flag(flag, i))) {
			if (k->type != NSSM_T_BOOL)
				return take_value(w, a, flag, n, err);
			a->value = a->flag[n] == '=' ? a->flag + n + 1 : "true";
			return 0;
		}
		negated(no, i);
		if (k->type == NSSM_T_BOOL && is_flag(a->flag, n, no)) {
			if (a->flag[n] == '=')
				return nssm_err_set(err, NSSM_EARG, "%s: takes no value", no);
			a->value = "false";
			return 0;
		}
	}
	*found = false;
	return 0;
}

/* 1: *a is the next word; 0: the end; < 0: error. */
static int next_arg(struct walk *w, struct arg *a, struct nssm_err *err)
{
	if (w->at < w->argc && !w->only_pos && strcmp(w->argv[w->at], "--") == 0) {
		w->only_pos = true;
		w->at++;
	}
	if (w->at == w->argc)
		return 0;
	const char *s = w->argv[w->at++];
	*a = (struct arg){.kind = ARG_POS, .flag = s, .value = s};
	if (w->only_pos || s[0] != '-' || s[1] == '\0')
		return 1;
	size_t n = strcspn(s, "=");
	int rc;
	if (is_flag(s, n, "--config")) {
		a->kind = ARG_CONFIG;
		rc = take_value(w, a, "--config", n, err);
		if (rc == 0 && a->value[0] == '\0')
			rc = nssm_err_set(err, NSSM_EARG, "--config: expected a file, found ''");
		return rc < 0 ? rc : 1;
	}
	bool found;
	a->kind = ARG_KEY;
	rc = take_key(w, a, n, &found, err);
	if (rc == 0 && !found)
		rc = unknown(w, s, n, err);
	return rc < 0 ? rc : 1;
}

int nssm_conf_args(struct nssm_conf *c, unsigned cmd, int argc, char **argv, int max_pos, const char **pos,
        int *n_pos, struct nssm_err *err)
{
	struct arg a;
	int rc;
	*n_pos = 0;
	/* Twice over the words: files first, so that a flag wins wherever it stands. The first pass also
	 * finds every misspelt flag before a file is opened. */
	struct walk w = {.cmd = cmd, .argc = argc, .argv = argv};
	while ((rc = next_arg(&w, &a, err)) > 0)
		;
	w = (struct walk){.cmd = cmd, .argc = argc, .argv = argv};
	while (rc == 0 && (rc = next_arg(&w, &a, err)) > 0)
		rc = a.kind == ARG_CONFIG ? nssm_conf_load(c, a.value, err) : 0;
	w = (struct walk){.cmd = cmd, .argc = argc, .argv = argv};
	while (rc == 0 && (rc = next_arg(&w, &a, err)) > 0) {
		char quoted[CONF_QUOTE_MAX];
		rc = 0;
		if (a.kind == ARG_KEY)
			rc = nssm_conf_set(c, a.id, a.value, NULL, err);
		else if (a.kind == ARG_POS && *n_pos < max_pos)
			pos[(*n_pos)++] = a.value;
		else if (a.kind == ARG_POS)
			rc = nssm_err_set(err, NSSM_EARG, "'%s': %s",
			        conf_quote(quoted, a.value, strlen(a.value)),
			        max_pos == 0 ? "not a flag; this command takes flags only"
			                     : "one argument too many");
	}
	return rc;
}
