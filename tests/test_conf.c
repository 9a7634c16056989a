/* conf: every type good and bad from YAML and from flags, what messages name, precedence, suggestions, the
 * table itself, the profiles, hostile bytes, and memory failing at every allocation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "base/philox.h"
#include "conf/conf.h"
#include "conf/nearest.h"
#include "model/mamba2.h"
#include "tests/scratch.h"

static struct nssm_conf *c;
static struct nssm_err err;

/* --- allocation failure: the n-th from now fails -------------------------------------------------------------- */

static long fail_at = -1, live;

void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
void __real_free(void *p);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);
void __wrap_free(void *p);

static bool fails(void)
{
	return fail_at >= 0 && fail_at-- == 0;
}

void *__wrap_calloc(size_t n, size_t size)
{
	if (fails())
		return NULL;
	live++;
	return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	if (fails())
		return NULL;
	live += p == NULL;
	return __real_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
	if (fails())
		return NULL;
	live++;
	return __real_strdup(s);
}

void __wrap_free(void *p)
{
	live -= p != NULL;
	__real_free(p);
}

/* --- helpers -------------------------------------------------------------------------------------------------- */

static int fresh(void **state)
{
	memset(&err, 0, sizeof err);
	return nssm_conf_open(&c, &err);
}

static int done(void **state)
{
	nssm_conf_close(&c);
	return c == NULL ? 0 : -1;
}

static int yaml(const char *text)
{
	return nssm_conf_load_mem(c, text, strlen(text), "p.yaml", &err);
}

static void yaml_ok(const char *text)
{
	if (yaml(text) != 0)
		fail_msg("%s\n-- refused: %s", text, err.msg);
}

static void yaml_bad(const char *text, const char *msg)
{
	assert_int_equal(yaml(text), NSSM_EFORMAT);
	assert_int_equal(err.code, NSSM_EFORMAT);
	assert_string_equal(err.msg, msg);
}

/* What libyaml says itself may change with its version; where it says it may not. */
static void yaml_not(const char *text, const char *msg)
{
	assert_int_equal(yaml(text), NSSM_EFORMAT);
	if (strncmp(err.msg, msg, strlen(msg)) != 0 || strlen(err.msg) == strlen(msg))
		fail_msg("'%s' does not begin with '%s'", err.msg, msg);
}

/* Flags in one string, at blanks. */
static int flags(unsigned cmd, const char *line)
{
	static char words[4 * PATH_MAX];
	static const char *pos[4];
	char *argv[64], *save;
	int argc = 0, n_pos;
	snprintf(words, sizeof words, "%s", line);
	for (char *w = strtok_r(words, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	return nssm_conf_args(c, cmd, argc, argv, 2, pos, &n_pos, &err);
}

static void flags_ok(unsigned cmd, const char *line)
{
	if (flags(cmd, line) != 0)
		fail_msg("%s\n-- refused: %s", line, err.msg);
}

static void flags_bad(unsigned cmd, const char *line, int code, const char *msg)
{
	assert_int_equal(flags(cmd, line), code);
	assert_int_equal(err.code, code);
	assert_string_equal(err.msg, msg);
}

/* --- values --------------------------------------------------------------------------------------------------- */

static void ints(void **state)
{
	static const struct {
		const char *text;
		int64_t v;
	} good[] = {{"0", 0}, {"12", 12}, {"+7", 7}, {"200k", 200000}, {"200K", 200000}, {"1M", 1000000},
	        {"2G", 2000000000}, {"1e6", 1000000}, {"1.5k", 1500}, {"2.50e2", 250}, {"1000e-3", 1},
	        {"010", 10}, {"0.0", 0}, {"7.", 7}, {"1e3k", 1000000}, {"0e99999999", 0},
	        {"9223372036854775807", INT64_MAX}, {"00000000000000000000000012", 12}, {"-0", 0}};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		if (nssm_conf_set(c, NSSM_K_VAL_TOKENS, good[i].text, NULL, &err) != 0)
			fail_msg("%s", err.msg);
		assert_int_equal(nssm_conf_int(c, NSSM_K_VAL_TOKENS), good[i].v);
	}
	static const char *const bad[] = {"abc", "", "1.5", "1e-1", "0.0001k", "k", ".", "-", "1 2", "1kk",
	        "0x10", "nan", "inf", "-inf", "1e", "1e+", "1..2", "--1", "12three", "1_000", "1,000", "1m",
	        " 1", "1 "};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (nssm_conf_set(c, NSSM_K_VAL_TOKENS, bad[i], NULL, &err) != NSSM_EARG)
			fail_msg("'%s' was taken: %s", bad[i], err.msg);
	static const char *const out[] = {"-1", "9223372036854775808", "1e19", "1e99999999999",
	        "-9223372036854775809", "99999999999999999999999999999999999999999999999999"};
	for (size_t i = 0; i < sizeof out / sizeof *out; i++)
		if (nssm_conf_set(c, NSSM_K_VAL_TOKENS, out[i], NULL, &err) != NSSM_ERANGE)
			fail_msg("'%s' was taken: %s", out[i], err.msg);
	/* What is refused changes nothing. */
	assert_int_equal(nssm_conf_int(c, NSSM_K_VAL_TOKENS), 0);
	assert_int_equal(nssm_conf_set(c, NSSM_K_D_MODEL, "16", NULL, &err), 0);
	assert_int_equal(nssm_conf_set(c, NSSM_K_D_MODEL, "8192", NULL, &err), 0);
	assert_int_equal(nssm_conf_set(c, NSSM_K_D_MODEL, "15", NULL, &err), NSSM_ERANGE);
	assert_string_equal(err.msg, "--d-model: expected an integer 16..8192, found '15'");
	assert_int_equal(nssm_conf_set(c, NSSM_K_D_MODEL, "8193", "resume", &err), NSSM_ERANGE);
	assert_string_equal(err.msg, "resume: model.d_model: expected an integer 16..8192, found '8193'");
	assert_int_equal(nssm_conf_set(c, NSSM_K_D_MODEL, "16.5", NULL, &err), NSSM_EARG);
	assert_string_equal(
	        err.msg, "--d-model: expected an integer 16..8192, found '16.5', which has a fraction");
	assert_int_equal(nssm_conf_set(c, NSSM_K_SEED, "9007199254740991", NULL, &err), 0);
	assert_int_equal(nssm_conf_int(c, NSSM_K_SEED), 9007199254740991);
	assert_int_equal(nssm_conf_set(c, NSSM_K_SEED, "9007199254740992", NULL, &err), NSSM_ERANGE);
}

static void floats(void **state)
{
	static const struct {
		const char *text;
		double v;
	} good[] = {{"0", 0}, {"1e-3", 1e-3}, {".5", .5}, {"10", 10}, {"+2.", 2}, {"1E-4", 1e-4},
	        {"1e-999", 0}, {"-0.0", 0}};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_int_equal(nssm_conf_set(c, NSSM_K_LR, good[i].text, NULL, &err), 0);
		assert_true(nssm_conf_float(c, NSSM_K_LR) == good[i].v);
	}
	static const char *const bad[] = {
	        "abc", "", "nan", "NaN", "inf", "Infinity", "0x1p3", "1e", "1k", "1 ", "e5", "1.2.3"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (nssm_conf_set(c, NSSM_K_LR, bad[i], NULL, &err) != NSSM_EARG)
			fail_msg("'%s' was taken", bad[i]);
	static const char *const out[] = {"-1e-9", "10.000001", "1e999", "-1e999"};
	for (size_t i = 0; i < sizeof out / sizeof *out; i++)
		if (nssm_conf_set(c, NSSM_K_LR, out[i], NULL, &err) != NSSM_ERANGE)
			fail_msg("'%s' was taken", out[i]);
	assert_string_equal(err.msg, "--lr: expected a number 0..10, found '-1e999'");
	/* A range without an end still ends before infinity. */
	assert_int_equal(nssm_conf_set(c, NSSM_K_CLIP, "1e999", NULL, &err), NSSM_ERANGE);
	assert_int_equal(nssm_conf_set(c, NSSM_K_CLIP, "1e100", NULL, &err), 0);
}

static void times(void **state)
{
	static const struct {
		const char *text;
		double s;
	} good[] = {{"30s", 30}, {"30", 30}, {"5m", 300}, {"5min", 300}, {"2h", 7200}, {"500ms", 0.5},
	        {"1d", 86400}, {"3us", 3e-6}, {"3µs", 3e-6}, {"7ns", 7e-9}, {"1.5 h", 5400}, {"1e3ms", 1}};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_int_equal(nssm_conf_set(c, NSSM_K_SAVE_EVERY, good[i].text, NULL, &err), 0);
		assert_true(nssm_conf_float(c, NSSM_K_SAVE_EVERY) == good[i].s);
	}
	static const char *const bad[] = {"", "s", "5x", "5 sec", "1h30m", "nan", "inf", "5mm", "1e5e5"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (nssm_conf_set(c, NSSM_K_SAVE_EVERY, bad[i], NULL, &err) != NSSM_EARG)
			fail_msg("'%s' was taken", bad[i]);
	assert_string_equal(
	        err.msg, "--save-every: expected a time (30s, 5m, 2h, 500ms) 0 s or more, found '1e5e5'");
	assert_int_equal(nssm_conf_set(c, NSSM_K_SAVE_EVERY, "-1s", NULL, &err), NSSM_ERANGE);
	assert_int_equal(nssm_conf_set(c, NSSM_K_SAVE_EVERY, "1e305d", NULL, &err), NSSM_ERANGE);
}

static void words(void **state)
{
	assert_int_equal(nssm_conf_set(c, NSSM_K_DTYPE, "bf16", NULL, &err), 0);
	assert_string_equal(nssm_conf_str(c, NSSM_K_DTYPE), "bf16");
	assert_int_equal(nssm_conf_set(c, NSSM_K_DTYPE, "bf61", NULL, &err), NSSM_EARG);
	assert_string_equal(
	        err.msg, "--dtype: expected one of fp32|bf16|fp16, found 'bf61'; did you mean bf16?");
	static const char *const bad[] = {"", "bf", "bf16|fp16", "|", "BF16", "bf16 "};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(nssm_conf_set(c, NSSM_K_DTYPE, bad[i], NULL, &err), NSSM_EARG);
	assert_string_equal(nssm_conf_str(c, NSSM_K_DTYPE), "bf16");
	static const char *const yes[] = {"true", "yes", "on", "1", "True"}, *const no[] = {"false", "no",
	                                                                             "off", "0", "FALSE"};
	for (int i = 0; i < 5; i++) {
		assert_int_equal(nssm_conf_set(c, NSSM_K_RESUME, yes[i], NULL, &err), 0);
		assert_true(nssm_conf_bool(c, NSSM_K_RESUME));
		assert_int_equal(nssm_conf_set(c, NSSM_K_RESUME, no[i], NULL, &err), 0);
		assert_false(nssm_conf_bool(c, NSSM_K_RESUME));
	}
	assert_int_equal(nssm_conf_set(c, NSSM_K_RESUME, "maybe", NULL, &err), NSSM_EARG);
	assert_string_equal(err.msg, "--resume: expected true or false, found 'maybe'");
	assert_null(nssm_conf_str(c, NSSM_K_LABELS));
	assert_int_equal(nssm_conf_set(c, NSSM_K_LABELS, "a b,c=ü", NULL, &err), 0);
	assert_string_equal(nssm_conf_str(c, NSSM_K_LABELS), "a b,c=ü");
	assert_int_equal(nssm_conf_set(c, NSSM_K_LABELS, "", NULL, &err), NSSM_EARG);
}

/* A found text is shown whole characters only, cut, and never with its control characters. */
static void quoting(void **state)
{
	char text[300] = "\x1b[31m\n\x7f";
	for (int i = 0; i < 100; i++)
		strcat(text, "ü");
	assert_int_equal(nssm_conf_set(c, NSSM_K_LR, text, NULL, &err), NSSM_EARG);
	assert_non_null(strstr(err.msg, "'?[31m??üü"));
	assert_non_null(strstr(err.msg, "ü…'"));
	for (const char *s = err.msg; *s != '\0'; s++)
		assert_true((unsigned char)*s >= 0x20);
}

static void lists(void **state)
{
	const char *const *item;
	assert_int_equal(nssm_conf_list(c, NSSM_K_ONLY, &item), 0);
	yaml_ok("prepare: {only: [web, 'd n s', \"3\"]}");
	assert_int_equal(nssm_conf_list(c, NSSM_K_ONLY, &item), 3);
	assert_string_equal(item[1], "d n s");
	assert_string_equal(item[2], "3");
	yaml_ok("prepare:\n  only: a,b\n");
	assert_int_equal(nssm_conf_list(c, NSSM_K_ONLY, &item), 1);
	assert_string_equal(item[0], "a,b");
	/* The first flag takes the place of what a file gave, the next ones add. */
	flags_ok(NSSM_CMD_PREPARE, "--only x --only=y");
	assert_int_equal(nssm_conf_list(c, NSSM_K_ONLY, &item), 2);
	assert_string_equal(item[0], "x");
	assert_string_equal(item[1], "y");
	yaml_ok("prepare: {only: []}");
	assert_int_equal(nssm_conf_list(c, NSSM_K_ONLY, &item), 0);
	assert_true(nssm_conf_is_set(c, NSSM_K_ONLY));
	/* Messages name the place that a user looks at. */
	char said[NSSM_FLAG_BYTES];
	assert_string_equal(nssm_conf_said(said, c, NSSM_K_ONLY), "prepare.only");
	assert_string_equal(nssm_conf_said(said, c, NSSM_K_LABELS), "--labels");
	flags_ok(NSSM_CMD_PREPARE, "--only x");
	assert_string_equal(nssm_conf_said(said, c, NSSM_K_ONLY), "--only");
	yaml_bad("prepare:\n  only:\n   - a\n   - [b]\n",
	        "p.yaml:4: prepare.only: expected a list of values, found one nested deeper");
	yaml_bad("prepare:\n  only:\n   - a\n   -\n", "p.yaml:4: prepare.only: has no value");
}

/* --- YAML ----------------------------------------------------------------------------------------------------- */

static void yaml_values(void **state)
{
	yaml_ok("\xef\xbb\xbf# a BOM, comments\n---\nmodel:\n  d_model: 512\ntrain: {lr: '1e-2', save_every: "
	        "5m, resume: yes}\nmodel: "
	        "{n_layer: 3}\nrun:\n");
	assert_int_equal(nssm_conf_int(c, NSSM_K_D_MODEL), 512);
	assert_int_equal(nssm_conf_int(c, NSSM_K_N_LAYER), 3);
	assert_true(nssm_conf_float(c, NSSM_K_LR) == 1e-2);
	assert_true(nssm_conf_float(c, NSSM_K_SAVE_EVERY) == 300);
	assert_true(nssm_conf_bool(c, NSSM_K_RESUME));
	yaml_ok("");
	yaml_ok("# nothing\n");
	yaml_ok("---\n");
	yaml_ok("--- ~\n...\n");
	/* A later file wins. */
	yaml_ok("model: {d_model: 64}\n");
	assert_int_equal(nssm_conf_int(c, NSSM_K_D_MODEL), 64);
	assert_int_equal(nssm_conf_int(c, NSSM_K_N_LAYER), 3);
}

static void yaml_errors(void **state)
{
	yaml_bad("model:\n  d_stat: 3\n", "p.yaml:2: model.d_stat: unknown key; did you mean model.d_state?");
	yaml_bad("train:\n\n  lr: abc\n", "p.yaml:3: train.lr: expected a number 0..10, found 'abc'");
	yaml_bad("train:\n  batch: 0\n",
	        "p.yaml:2: train.batch: expected an integer 1..4096 lanes, found '0'");
	yaml_bad("model: {lr: 1}\n", "p.yaml:1: model.lr: unknown key; did you mean train.lr?");
	yaml_bad("model: {qqqqqqq: 1}\n", "p.yaml:1: model.qqqqqqq: unknown key");
	yaml_bad("modle: {d_model: 64}\n", "p.yaml:1: modle: unknown section; did you mean model?");
	yaml_bad("d_model: 64\n", "p.yaml:1: d_model: unknown section; did you mean model: {d_model: …}?");
	yaml_bad("model.d_model: 64\n",
	        "p.yaml:1: model.d_model: unknown section; did you mean model: {d_model: …}?");
	yaml_bad("model:\n  n_layer: 1\n  d_model: 64\n  n_layer: 2\n",
	        "p.yaml:4: model.n_layer: given twice; first on line 2");
	yaml_bad("model: {n_layer: 1}\nmodel:\n  n_layer: 1\n",
	        "p.yaml:3: model.n_layer: given twice; first on line 1");
	yaml_bad("model:\n  d_model: [64]\n", "p.yaml:2: model.d_model: expected one value, found a list");
	yaml_bad("model:\n  d_model:\n    x: 1\n",
	        "p.yaml:3: model.d_model: expected a value, found more keys below it");
	yaml_bad("model:\n  d_model:\n", "p.yaml:2: model.d_model: has no value");
	yaml_bad("model:\n  d_model: ~\n", "p.yaml:2: model.d_model: has no value");
	yaml_bad("model: 3\n", "p.yaml:1: model: expected keys below this section");
	yaml_bad("model: [a]\n", "p.yaml:1: model: expected keys below this section");
	yaml_bad("- a\n", "p.yaml:1: expected sections (model: …), found something else");
	yaml_bad("hello\n", "p.yaml:1: expected sections (model: …), found something else");
	yaml_bad("[a]: 1\n", "p.yaml:1: expected the name of a section, found a list or a mapping");
	yaml_bad("model: {{a: 1}: 1}\n", "p.yaml:1: model: expected a key, found a list or a mapping");
	yaml_bad("model: &x\n  d_model: 64\n", "p.yaml:1: YAML anchors (&name) are not allowed here");
	yaml_bad("model:\n  d_model: &x 64\n", "p.yaml:2: YAML anchors (&name) are not allowed here");
	yaml_bad("model:\n  d_model: *x\n", "p.yaml:2: YAML aliases (*name) are not allowed here");
	yaml_bad("model:\n  d_model: !!int 64\n", "p.yaml:2: YAML tags (!name) are not allowed here");
	yaml_bad("prepare:\n  only: &x [a]\n", "p.yaml:2: YAML anchors (&name) are not allowed here");
	yaml_bad("model: {d_model: 64}\n---\nmodel: {d_model: 65}\n",
	        "p.yaml:2: a second YAML document; a profile is one");
	yaml_bad("prepare:\n  labels: \"a\\0b\"\n", "p.yaml:2: a value with a NUL character in it");
	yaml_not("model:\n  d_model: 64\n bad\n", "p.yaml:3: not YAML: ");
	yaml_not("model:\n\td_model: 64\n", "p.yaml:2: not YAML: ");
	yaml_not("model: [\n", "p.yaml:");
	yaml_not("model:\n  d_model: 64\n  x: \xff\n", "p.yaml:3: not a text in UTF-8: ");
	yaml_not("a: \x01\n", "p.yaml:1: not a text in UTF-8: ");
	assert_int_equal(nssm_conf_load(c, scratch("none.yaml"), &err), NSSM_EIO);
	assert_non_null(strstr(err.msg, "none.yaml: cannot open: No such file"));
	assert_int_equal(nssm_conf_load(c, scratch_dir, &err), NSSM_EIO);
	assert_non_null(strstr(err.msg, "cannot read: Is a directory"));
}

/* A long path keeps its end, and the key and the values are still there. */
static void long_path(void **state)
{
	char path[1000];
	memset(path, 'x', sizeof path);
	memcpy(path + sizeof path - 10, "/end.yaml", 10);
	static const char text[] = "model: {d_model: 1}\n";
	assert_int_equal(nssm_conf_load_mem(c, text, strlen(text), path, &err), NSSM_EFORMAT);
	assert_non_null(
	        strstr(err.msg, "/end.yaml:1: model.d_model: expected an integer 16..8192, found '1'"));
}

static void yaml_limits(void **state)
{
	static char text[(17 << 20) + 1];
	size_t big = sizeof text - 1;
	memset(text, '#', big);
	assert_int_equal(nssm_conf_load_mem(c, text, big, "p.yaml", &err), NSSM_EFORMAT);
	assert_string_equal(err.msg, "p.yaml: larger than 16 MiB; not a profile");
	scratch_write(scratch("big.yaml"), text, big);
	assert_int_equal(nssm_conf_load(c, scratch("big.yaml"), &err), NSSM_EFORMAT);
	assert_non_null(strstr(err.msg, "larger than 16 MiB"));
	/* 64 KiB of text pass, one byte more does not. */
	int head = snprintf(text, big, "prepare: {labels: \"");
	memset(text + head, 'a', 65537);
	memcpy(text + head + 65536, "\"}", 3);
	yaml_ok(text);
	assert_int_equal(strlen(nssm_conf_str(c, NSSM_K_LABELS)), 65536);
	memcpy(text + head + 65536, "a\"}", 4);
	yaml_bad(text, "p.yaml:1: a value of more than 65536 bytes");
	/* Deep nesting is refused at its first level too many, whatever follows. */
	memcpy(text, "model: ", 7);
	memset(text + 7, '[', 1 << 20);
	text[7 + (1 << 20)] = '\0';
	assert_int_equal(yaml(text), NSSM_EFORMAT);
	size_t n = (size_t)sprintf(text, "prepare: {only: [");
	for (int i = 0; i < 65537; i++)
		n += (size_t)sprintf(text + n, "a,\n");
	sprintf(text + n, "]}");
	yaml_bad(text, "p.yaml:65537: prepare.only: more than 65536 items");
}

/* Profiles with bytes changed, cut and doubled: an error or none, never more. */
static void hostile(void **state)
{
	size_t len;
	char *good = scratch_read("../conf/small.yaml", &len);
	assert_non_null(good);
	char *text = malloc(2 * len + 64);
	assert_non_null(text);
	struct nssm_rng rng;
	nssm_rng_init(&rng, 20260101, 0, NSSM_RNG_INIT);
	static const char spice[] = "[]{}:-,&*!|>'\"%@`#\n\t \\~?\x80\xff\xc3\xef\xbb\xbf\0019e";
	int n_bad = 0;
	for (int round = 0; round < 4000; round++) {
		size_t n = len;
		memcpy(text, good, len);
		int n_edits = 1 + (int)(nssm_rng_unit(&rng) * 8);
		for (int i = 0; i < n_edits; i++)
			text[(size_t)(nssm_rng_unit(&rng) * (double)n)] =
			        spice[(size_t)(nssm_rng_unit(&rng) * (double)(sizeof spice - 1))];
		if (round % 3 == 0)
			n = (size_t)(nssm_rng_unit(&rng) * (double)n);
		if (round % 5 == 0)
			for (size_t i = 0; i < n; i++)
				text[i] = (char)(nssm_rng_unit(&rng) * 256);
		memset(&err, 0, sizeof err);
		int rc = nssm_conf_load_mem(c, text, n, "p.yaml", &err);
		assert_true(rc == 0 || rc == NSSM_EFORMAT);
		assert_int_equal(err.code, rc);
		if (rc != 0)
			assert_int_equal(strncmp(err.msg, "p.yaml:", 7), 0);
		n_bad += rc != 0;
	}
	assert_true(n_bad > 1000);
	free(text);
	free(good);
}

/* --- flags ---------------------------------------------------------------------------------------------------- */

static void flag_forms(void **state)
{
	flags_ok(NSSM_CMD_TRAIN, "--d-model 512 --lr=1e-2 --resume --val-tokens 1M");
	assert_int_equal(nssm_conf_int(c, NSSM_K_D_MODEL), 512);
	assert_true(nssm_conf_float(c, NSSM_K_LR) == 1e-2);
	assert_true(nssm_conf_bool(c, NSSM_K_RESUME));
	assert_true(nssm_conf_is_set(c, NSSM_K_RESUME));
	assert_false(nssm_conf_is_set(c, NSSM_K_BETA1));
	flags_ok(NSSM_CMD_TRAIN, "--no-resume --lr 1 --lr 2 --val=--odd");
	assert_false(nssm_conf_bool(c, NSSM_K_RESUME));
	assert_true(nssm_conf_float(c, NSSM_K_LR) == 2);
	assert_string_equal(nssm_conf_str(c, NSSM_K_VAL_CORPUS), "--odd");
	flags_ok(NSSM_CMD_TRAIN, "--resume=yes");
	assert_true(nssm_conf_bool(c, NSSM_K_RESUME));
	/* The same word means another key to another command. */
	flags_ok(NSSM_CMD_PREPARE, "--out corpus");
	flags_ok(NSSM_CMD_TRAIN, "--out folder");
	assert_string_equal(nssm_conf_str(c, NSSM_K_CORPUS_OUT), "corpus");
	assert_string_equal(nssm_conf_str(c, NSSM_K_TRAIN_OUT), "folder");
}

static void positionals(void **state)
{
	char *argv[] = {"a", "--json", "-", "--", "--verify"};
	const char *pos[4];
	int n_pos;
	assert_int_equal(nssm_conf_args(c, NSSM_CMD_INFO, 5, argv, 4, pos, &n_pos, &err), 0);
	assert_int_equal(n_pos, 3);
	assert_ptr_equal(pos[0], argv[0]);
	assert_ptr_equal(pos[1], argv[2]);
	assert_ptr_equal(pos[2], argv[4]);
	assert_true(nssm_conf_bool(c, NSSM_K_JSON));
	assert_false(nssm_conf_bool(c, NSSM_K_VERIFY));
	assert_int_equal(nssm_conf_args(c, NSSM_CMD_INFO, 5, argv, 2, pos, &n_pos, &err), NSSM_EARG);
	assert_string_equal(err.msg, "'--verify': one argument too many");
	assert_int_equal(nssm_conf_args(c, NSSM_CMD_INFO, 1, argv, 0, NULL, &n_pos, &err), NSSM_EARG);
	assert_string_equal(err.msg, "'a': not a flag; this command takes flags only");
}

static void flag_errors(void **state)
{
	flags_bad(
	        NSSM_CMD_TRAIN, "--d-modle 3", NSSM_EARG, "--d-modle: unknown flag; did you mean --d-model?");
	flags_bad(NSSM_CMD_TRAIN, "--weight_decay 3", NSSM_EARG,
	        "--weight_decay: unknown flag; did you mean --weight-decay?");
	flags_bad(NSSM_CMD_TRAIN, "--seq 3", NSSM_EARG, "--seq: unknown flag; did you mean --seq-tokens?");
	flags_bad(NSSM_CMD_TRAIN, "--cofnig=x", NSSM_EARG, "--cofnig: unknown flag; did you mean --config?");
	flags_bad(NSSM_CMD_TRAIN, "--zzzzzzzz", NSSM_EARG, "--zzzzzzzz: unknown flag");
	flags_bad(NSSM_CMD_TRAIN, "-x", NSSM_EARG, "-x: unknown flag");
	flags_bad(
	        NSSM_CMD_GENERATE, "--lr 3", NSSM_EARG, "--lr: not a flag of generate; it belongs to: train");
	flags_bad(NSSM_CMD_INFO, "--seed 3", NSSM_EARG,
	        "--seed: not a flag of info; it belongs to: train, generate, replay, decode, eval");
	flags_bad(NSSM_CMD_TRAIN, "--lr", NSSM_EARG, "--lr: needs a value, found the end of the line");
	flags_bad(NSSM_CMD_TRAIN, "--out --resume", NSSM_EARG,
	        "--out: needs a value, found the flag --resume (a value that begins so: --out=--resume)");
	flags_bad(
	        NSSM_CMD_TRAIN, "--config", NSSM_EARG, "--config: needs a value, found the end of the line");
	flags_bad(NSSM_CMD_TRAIN, "--config=", NSSM_EARG, "--config: expected a file, found ''");
	flags_bad(NSSM_CMD_TRAIN, "--no-resume=1", NSSM_EARG, "--no-resume: takes no value");
	flags_bad(NSSM_CMD_TRAIN, "--no-lr", NSSM_EARG, "--no-lr: unknown flag");
	flags_bad(NSSM_CMD_TRAIN, "--lr -1", NSSM_ERANGE, "--lr: expected a number 0..10, found '-1'");
	flags_bad(NSSM_CMD_TRAIN, "--lr=", NSSM_EARG, "--lr: expected a number 0..10, found ''");
}

static void precedence(void **state)
{
	const char *a = scratch("a.yaml"), *b = scratch("b.yaml");
	char line[3 * PATH_MAX];
	static const char one[] = "model: {d_model: 64, n_layer: 7, headdim: 32}\nrun: {threads: 3}\n";
	static const char two[] = "model: {n_layer: 8}\nprepare: {packet_len: 106}\n";
	scratch_write(a, one, strlen(one));
	scratch_write(b, two, strlen(two));
	assert_int_equal(nssm_conf_int(c, NSSM_K_D_STATE), 64);
	/* Files first, in their order, wherever they stand. */
	snprintf(line, sizeof line, "--headdim 16 --config %s --d-state 32 --config=%s", a, b);
	flags_ok(NSSM_CMD_TRAIN, line);
	assert_int_equal(nssm_conf_int(c, NSSM_K_D_MODEL), 64);
	assert_int_equal(nssm_conf_int(c, NSSM_K_N_LAYER), 8);
	assert_int_equal(nssm_conf_int(c, NSSM_K_HEADDIM), 16);
	assert_int_equal(nssm_conf_int(c, NSSM_K_D_STATE), 32);
	assert_int_equal(nssm_conf_int(c, NSSM_K_D_CONV), 4);
	assert_int_equal(nssm_conf_int(c, NSSM_K_THREADS), 3);
	/* Another command's key is taken from a file, so that one profile serves all. */
	assert_int_equal(nssm_conf_int(c, NSSM_K_PKT_LEN), 106);
	/* A misspelt flag is named before a missing file. */
	flags_bad(NSSM_CMD_TRAIN, "--config none --lrr 3", NSSM_EARG,
	        "--lrr: unknown flag; did you mean --lr?");
	assert_int_equal(flags(NSSM_CMD_TRAIN, "--config none.yaml"), NSSM_EIO);
	snprintf(line, sizeof line, "--config %s", scratch("bad.yaml"));
	scratch_write(scratch("bad.yaml"), "model: {d_model: x}\n", 20);
	assert_int_equal(flags(NSSM_CMD_TRAIN, line), NSSM_EFORMAT);
	assert_non_null(strstr(err.msg, "bad.yaml:1: model.d_model: "));
}

/* --- suggestions ---------------------------------------------------------------------------------------------- */

static const char *near(const char *word)
{
	static struct nssm_nearest n;
	nssm_nearest_init(&n, word);
	static const char *const all[] = {"prepare", "train", "generate", "info", "bench", "sessions"};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		nssm_nearest_offer(&n, all[i]);
	const char *best = nssm_nearest_get(&n);
	return best != NULL ? best : "-";
}

static void nearest(void **state)
{
	assert_string_equal(near("trian"), "train");  /* swapped: distance 1 */
	assert_string_equal(near("tran"), "train");   /* missing */
	assert_string_equal(near("traain"), "train"); /* one more */
	assert_string_equal(near("TRAIN"), "train");
	assert_string_equal(near("gen"), "generate"); /* its beginning */
	assert_string_equal(near("ge"), "-");
	assert_string_equal(near("genrte"), "generate"); /* 2 of 6 */
	assert_string_equal(near("gnrte"), "-");         /* 3 of 5 */
	assert_string_equal(near("xyzzy"), "-");
	assert_string_equal(near(""), "-");
	char word[200];
	memset(word, 'a', sizeof word);
	word[199] = '\0';
	assert_string_equal(near(word), "-");
	word[63] = '\0';
	assert_string_equal(near(word), "-");
}

/* --- the table ------------------------------------------------------------------------------------------------ */

static void table(void **state)
{
	for (int i = 0; i < NSSM_N_KEYS; i++) {
		const struct nssm_key *k = nssm_conf_key(i);
		char flag[NSSM_FLAG_BYTES], other[NSSM_FLAG_BYTES], allowed[128];
		nssm_conf_flag(flag, i);
		nssm_conf_allowed(allowed, i);
		assert_true(strlen(allowed) < 120);
		assert_non_null(k->help);
		assert_true(strlen(k->help) >= 5);
		assert_true(k->help[strlen(k->help) - 1] != '.');
		assert_int_equal(strspn(k->name, "abcdefghijklmnopqrstuvwxyz0123456789_."), strlen(k->name));
		assert_ptr_equal(strchr(k->name, '.'), strrchr(k->name, '.'));
		assert_int_equal(k->type == NSSM_T_ENUM, k->choices != NULL);
		if (k->type == NSSM_T_INT || k->type == NSSM_T_FLOAT || k->type == NSSM_T_TIME) {
			assert_true(k->min < k->max);
			/* Without one, help says what happens then. */
			assert_true(k->def != NULL || strstr(k->help, "default: ") != NULL);
		}
		/* The default is what its own row allows. */
		if (k->def != NULL && nssm_conf_set(c, i, k->def, NULL, &err) != 0)
			fail_msg("%s", err.msg);
		for (int j = 0; j < i; j++) {
			const struct nssm_key *o = nssm_conf_key(j);
			assert_string_not_equal(k->name, o->name);
			nssm_conf_flag(other, j);
			if ((k->cmds & o->cmds) == 0)
				continue;
			assert_string_not_equal(flag, other);
			/* Nor is one the other's --no- form. */
			assert_false(strncmp(flag, "--no-", 5) == 0 && strcmp(flag + 5, other + 2) == 0);
			assert_false(strncmp(other, "--no-", 5) == 0 && strcmp(other + 5, flag + 2) == 0);
		}
	}
}

/* Help names each flag of the command once, and no line is wider than asked. */
static void help(void **state)
{
	for (unsigned bit = 1; bit <= NSSM_CMD_LAST; bit <<= 1) {
		for (int width = 60; width <= 110; width += 25) {
			char *text = NULL;
			size_t n;
			FILE *f = open_memstream(&text, &n);
			assert_non_null(f);
			nssm_conf_help(f, bit, width);
			fclose(f);
			for (int i = 0; i < NSSM_N_KEYS; i++) {
				char flag[NSSM_FLAG_BYTES + 4], line[NSSM_FLAG_BYTES + 8];
				nssm_conf_flag(flag, i);
				int found = 0;
				for (const char *end = " \n"; *end != '\0'; end++) {
					snprintf(line, sizeof line, "\n  %s%c", flag, *end);
					const char *at = strstr(text, line);
					found += at != NULL;
					assert_true(at == NULL || strstr(at + 1, line) == NULL);
				}
				bool own = false;
				for (int j = 0; j < NSSM_N_KEYS; j++) {
					char other[NSSM_FLAG_BYTES];
					own = own || ((nssm_conf_key(j)->cmds & bit) &&
					                     strcmp(nssm_conf_flag(other, j), flag) == 0);
				}
				assert_int_equal(found, own);
			}
			char *save;
			for (char *l = strtok_r(text, "\n", &save); l != NULL;
			        l = strtok_r(NULL, "\n", &save)) {
				int cols = 0;
				for (char *s = l; *s != '\0'; s++)
					cols += ((unsigned char)*s & 0xc0) != 0x80;
				if (cols > width && strchr(l, '|') == NULL) /* choices are not broken */
					fail_msg("%d columns of %d: %s", cols, width, l);
			}
			__real_free(text);
		}
	}
}

static void profiles(void **state)
{
	static const char *const path[] = {"../conf/tiny.yaml", "../conf/small.yaml", "../conf/paper.yaml"};
	static const int want[][4] = {{64, 2, 16, 4}, {256, 4, 64, 8}, {768, 24, 128, 24}};
	for (int i = 0; i < 3; i++) {
		nssm_conf_close(&c);
		assert_int_equal(nssm_conf_open(&c, &err), 0);
		if (nssm_conf_load(c, path[i], &err) != 0)
			fail_msg("%s", err.msg);
		struct nssm_mamba2_cfg m;
		if (nssm_mamba2_cfg_init(&m, (int)nssm_conf_int(c, NSSM_K_D_MODEL),
		            (int)nssm_conf_int(c, NSSM_K_N_LAYER), (int)nssm_conf_int(c, NSSM_K_EXPAND),
		            (int)nssm_conf_int(c, NSSM_K_HEADDIM), (int)nssm_conf_int(c, NSSM_K_D_STATE),
		            (int)nssm_conf_int(c, NSSM_K_D_CONV), 262,
		            (int)nssm_conf_int(c, NSSM_K_VOCAB_MULTIPLE), (int)nssm_conf_int(c, NSSM_K_CHUNK),
		            &err) != 0)
			fail_msg("%s: %s", path[i], err.msg);
		assert_int_equal(m.D, want[i][0]);
		assert_int_equal(m.L, want[i][1]);
		assert_int_equal(m.N, want[i][2]);
		assert_int_equal(m.H, want[i][3]);
		assert_true(nssm_conf_is_set(c, NSSM_K_LR));
		if (i == 2) {
			/* 90.6 M, as published. */
			double n = (double)nssm_mamba2_param_floats(&m);
			assert_true(n > 90.5e6 && n < 90.7e6);
			assert_int_equal(nssm_conf_int(c, NSSM_K_SEQ_TOKENS), 100000);
			assert_true(nssm_conf_float(c, NSSM_K_LR) == 5e-4);
		}
	}
}

/* Whatever allocation fails: NSSM_ENOMEM, and everything is given back. */
static void no_memory(void **state)
{
	static const char text[] =
	        "prepare: {only: [a, b, c, d, e, f, g, h, i, j], labels: x}\ntrain: {dtype: bf16}\n";
	nssm_conf_close(&c);
	bool ok = false;
	for (int n = 0; !ok; n++) {
		assert_true(n < 1000);
		struct nssm_conf *d = NULL;
		long before = live;
		fail_at = n;
		int rc = nssm_conf_open(&d, &err);
		if (rc == 0)
			rc = nssm_conf_load_mem(d, text, strlen(text), "p.yaml", &err);
		if (rc == 0)
			rc = nssm_conf_set(d, NSSM_K_ONLY, "z", NULL, &err);
		ok = rc == 0 && fail_at >= 0;
		fail_at = -1;
		if (!ok)
			assert_int_equal(rc, NSSM_ENOMEM);
		nssm_conf_close(&d);
		assert_int_equal(live, before);
	}
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, fresh, done)

int main(void)
{
	const struct CMUnitTest tests[] = {CASE(ints), CASE(floats), CASE(times), CASE(words), CASE(quoting),
	        CASE(lists), CASE(yaml_values), CASE(yaml_errors), CASE(long_path), CASE(yaml_limits),
	        CASE(hostile), CASE(flag_forms), CASE(positionals), CASE(flag_errors), CASE(precedence),
	        CASE(nearest), CASE(table), CASE(help), CASE(profiles), CASE(no_memory)};
	return cmocka_run_group_tests(tests, scratch_open, scratch_close);
}
