#include "conf/conf.h"

#include <string.h>

#define INDENT 26

/* Columns of UTF-8 text; the table holds no wide characters. */
static int columns(const char *s, size_t n)
{
	int k = 0;
	for (size_t i = 0; i < n; i++)
		k += ((unsigned char)s[i] & 0xc0) != 0x80;
	return k;
}

/* Words from column `at` on, wrapped at width, later lines indented. */
static void wrap(FILE *out, const char *s, int at, int width)
{
	int col = at;
	bool first = true;
	while (*s != '\0') {
		size_t n = strcspn(s, " ");
		int w = columns(s, n);
		if (!first && col + 1 + w > width) {
			fprintf(out, "\n%*s", at, "");
			col = at;
			first = true;
		}
		fprintf(out, "%s%.*s", first ? "" : " ", (int)n, s);
		col += w + !first;
		first = false;
		s += n;
		s += strspn(s, " ");
	}
	fputc('\n', out);
}

static void row(FILE *out, const char *left, const char *text, int width)
{
	fputs(left, out);
	int n = columns(left, strlen(left));
	if (n >= INDENT) {
		fputc('\n', out);
		n = 0;
	}
	fprintf(out, "%*s", INDENT - n, "");
	wrap(out, text, INDENT, width);
}

static void one_key(FILE *out, enum nssm_key_id id, int width)
{
	const struct nssm_key *k = nssm_conf_key(id);
	char flag[NSSM_FLAG_BYTES], left[256], allowed[128], text[768];
	const char *var = nssm_conf_metavar(id);
	snprintf(left, sizeof left, "  %s%s%s%s", nssm_conf_flag(flag, id), var[0] ? " " : "", var,
	        k->type == NSSM_T_LIST ? " …" : "");
	nssm_conf_allowed(allowed, id);
	snprintf(text, sizeof text, "%s%s%s%s", k->help, allowed[0] ? " [" : "", allowed,
	        allowed[0] ? "]" : "");
	row(out, left, text, width);
}

/* The keys of one section, if this command takes any of them. */
static void section(FILE *out, unsigned cmd, const char *name, int width)
{
	size_t n = strlen(name);
	bool any = false;
	for (int i = 0; i < NSSM_N_KEYS; i++) {
		const struct nssm_key *k = nssm_conf_key(i);
		if ((k->cmds & cmd) == 0 || strncmp(k->name, name, n) != 0 || k->name[n] != '.')
			continue;
		if (!any)
			fprintf(out, "\n%s:\n", name);
		any = true;
		one_key(out, i, width);
	}
}

void nssm_conf_help(FILE *out, unsigned cmd, int width)
{
	if (width < 2 * INDENT)
		width = 2 * INDENT;
	/* The command's own section first, then those it shares, in the table's order. */
	const char *own = nssm_conf_cmd_name(cmd);
	section(out, cmd, own, width);
	const char *last = "";
	bool bools = false;
	for (int i = 0; i < NSSM_N_KEYS; i++) {
		const struct nssm_key *k = nssm_conf_key(i);
		char name[64];
		snprintf(name, sizeof name, "%.*s", (int)strcspn(k->name, "."), k->name);
		bools = bools || ((k->cmds & cmd) != 0 && k->type == NSSM_T_BOOL);
		if (strcmp(name, own) == 0 || strcmp(name, "run") == 0 ||
		        strncmp(k->name, last, strlen(name) + 1) == 0)
			continue;
		last = k->name;
		section(out, cmd, name, width);
	}
	if (strcmp(own, "run") != 0)
		section(out, cmd, "run", width);
	fputs("\ncommon:\n", out);
	row(out, "  --config FILE …",
	        "YAML profile, read before the flags; a later one wins over an earlier one", width);
	row(out, "  -h, --help", "this text", width);
	fputc('\n', out);
	wrap(out,
	        "Numbers without fraction take the suffixes k, M and G; times take ns, us, ms, s, m, h and "
	        "d.",
	        0, width);
	if (bools)
		wrap(out, "--no-FLAG turns a flag without a value off again.", 0, width);
}
