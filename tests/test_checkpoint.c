/* checkpoint: saved and loaded again, replaced in one step, read in the reference's form, and every way to be
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "model/checkpoint.h"
#include "model/jsonfile.h"
#include "tests/scratch.h"

static struct nssm_model_card card, back; /* large */
static struct nssm_err err;
static float *params, *loaded;
static size_t n_floats;

#define SEED 7

/* A model of 2 layers, 262 tokens in 272 rows. */
static int set_up(void **state)
{
	if (nssm_mamba2_cfg_init(&card.cfg, 32, 2, 2, 16, 16, 4, 262, 16, 32, &err) != 0)
		return -1;
	nssm_vocab_init(&card.vocab);
	nssm_vocab_add_label(&card.vocab, "web", &err);
	nssm_vocab_add_label(&card.vocab, "dns", &err);
	card.codec = (struct nssm_codec_cfg){.kind = NSSM_CODEC_RAW, .version = 1, .pkt_len = 106};
	card.iat = calloc(2, sizeof *card.iat);
	for (unsigned i = 0; i < NSSM_IAT_STEPS; i++)
		card.iat[1].n += card.iat[1].count[i] = (uint64_t)i * i << 32;
	n_floats = nssm_mamba2_param_floats(&card.cfg);
	params = malloc(n_floats * sizeof *params);
	loaded = malloc(n_floats * sizeof *loaded);
	nssm_mamba2_init(params, &card.cfg, SEED);
	/* Rows of padding as a load gives them. */
	memset(params + 262 * 32, 0, 10 * 32 * sizeof *params);
	return scratch_open(state);
}

static int tear_down(void **state)
{
	nssm_model_card_free(&card);
	free(params);
	free(loaded);
	return scratch_close(state);
}

static void ok(int rc)
{
	if (rc != 0)
		fail_msg("%d: %s", rc, err.msg);
}

static void refused(int rc, int code, const char *names)
{
	if (rc != code || strstr(err.msg, names) == NULL)
		fail_msg("expected %d and \"%s\", found %d: %s", code, names, rc, err.msg);
}

static int save(const char *dir)
{
	return nssm_checkpoint_save(dir, &card, params, NSSM_F32, NULL, NULL, 0, &err);
}

/* Card and weights; the card is freed again. */
static int load(const char *dir)
{
	int rc = nssm_checkpoint_load_card(&back, dir, &err);
	if (rc != 0)
		return rc;
	memset(loaded, 0xff, n_floats * sizeof *loaded);
	if (nssm_mamba2_param_floats(&back.cfg) == n_floats)
		rc = nssm_checkpoint_load_weights(loaded, &back, dir, &err);
	nssm_model_card_free(&back);
	return rc;
}

static const char *in(const char *dir, const char *name)
{
	static char out[4][PATH_MAX + 64];
	static unsigned turn;
	char *s = out[turn++ % 4];
	snprintf(s, sizeof out[0], "%s/%s", dir, name);
	return s;
}

static int count_entries(const char *dir)
{
	int n = 0;
	DIR *d = opendir(dir);
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d)) != NULL;)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static void round_trip(void **state)
{
	const char *dir = scratch("rt");
	float extra_out[5] = {1, NAN, -0.0f, 4, 5}, extra_in[5], one_out = 3, one_in;
	struct nssm_extra out[] = {{"adam.m", extra_out, 5}, {"adam.v", &one_out, 1}};
	json_t *training = json_pack("{s:i,s:f,s:I}", "step", 12, "loss", 0.1, "seed", (json_int_t)INT64_MAX),
	       *t;
	ok(nssm_checkpoint_save(dir, &card, params, NSSM_F32, training, out, 2, &err));
	assert_int_equal(count_entries(dir), 6);
	ok(nssm_checkpoint_load_card(&back, dir, &err));
	assert_memory_equal(&back.cfg, &card.cfg, sizeof card.cfg);
	assert_memory_equal(&back.vocab, &card.vocab, sizeof card.vocab);
	assert_memory_equal(back.iat, card.iat, 2 * sizeof *card.iat);
	assert_int_equal(back.codec.kind, NSSM_CODEC_RAW);
	assert_int_equal(back.codec.version, 1);
	assert_int_equal(back.codec.pkt_len, 106);
	assert_false(back.codec.compat_paper);
	assert_true(back.hash == 0);
	memset(loaded, 0xff, n_floats * sizeof *loaded);
	ok(nssm_checkpoint_load_weights(loaded, &back, dir, &err));
	assert_memory_equal(loaded, params, n_floats * sizeof *params);
	assert_true(back.hash != 0);
	nssm_model_card_free(&back);
	assert_null(back.iat);

	ok(nssm_checkpoint_load_training(&t, dir, &err));
	assert_true(json_equal(t, training));
	json_decref(t);
	json_decref(training);
	struct nssm_extra in_[] = {{"adam.v", &one_in, 1}, {"adam.m", extra_in, 5}};
	ok(nssm_checkpoint_load_extra(dir, in_, 2, &err));
	assert_memory_equal(extra_in, extra_out, sizeof extra_in);
	assert_true(one_in == 3);
	in_[1].n = 4;
	refused(nssm_checkpoint_load_extra(dir, in_, 2, &err), NSSM_EFORMAT,
	        "\"adam.m\": expected 4 fp32 values, found 5");
	in_[1] = (struct nssm_extra){"adam.w", extra_in, 5};
	refused(nssm_checkpoint_load_extra(dir, in_, 2, &err), NSSM_EFORMAT, "\"adam.w\": missing");
}

/* Rounded once, a model is the same for ever. The hash names the file, not the folder. */
static void half_dtypes(void **state)
{
	static const double step[] = {[NSSM_BF16] = 0x1p-8, [NSSM_F16] = 0x1p-11};
	for (int dtype = NSSM_BF16; dtype <= NSSM_F16; dtype++) {
		ok(nssm_checkpoint_save(scratch("half"), &card, params, dtype, NULL, NULL, 0, &err));
		ok(load(scratch("half")));
		uint64_t hash = back.hash;
		for (size_t i = 0; i < n_floats; i++)
			assert_true(fabs((double)loaded[i] - params[i]) <=
			            fabs(params[i]) * step[dtype] + 0x1p-25);
		ok(nssm_checkpoint_save(scratch("half2"), &card, loaded, dtype, NULL, NULL, 0, &err));
		float *first = malloc(n_floats * sizeof *first);
		memcpy(first, loaded, n_floats * sizeof *first);
		ok(load(scratch("half2")));
		assert_memory_equal(first, loaded, n_floats * sizeof *first);
		assert_true(back.hash == hash);
		free(first);
	}
	assert_string_equal(nssm_dtype_name(NSSM_F32), "fp32");
	assert_string_equal(nssm_dtype_name(NSSM_BF16), "bf16");
	assert_string_equal(nssm_dtype_name(NSSM_F16), "fp16");
}

static void replaced(void **state)
{
	const char *dir = scratch("rep");
	json_t *training = json_pack("{s:i}", "step", 1), *t;
	ok(nssm_checkpoint_save(dir, &card, params, NSSM_F32, training, NULL, 0, &err));
	json_decref(training);
	params[0] += 1;
	/* What a killed writer of our own number may have left. */
	char left[PATH_MAX];
	snprintf(left, sizeof left, "%s.tmp.%ld", dir, (long)getpid());
	assert_int_equal(mkdir(left, 0755), 0);
	scratch_write(in(left, "config.json"), "{", 1);
	char slashes[PATH_MAX];
	snprintf(slashes, sizeof slashes, "%s//", dir);
	ok(save(slashes));
	params[0] -= 1;
	assert_int_equal(access(left, F_OK), -1);
	ok(load(dir));
	assert_true(loaded[0] == params[0] + 1);
	/* The old training state went with the old folder. */
	assert_int_equal(count_entries(dir), 4);
	refused(nssm_checkpoint_load_training(&t, dir, &err), NSSM_EIO, "training.json");
	assert_null(t);
}

static void foreign_files_are_kept(void **state)
{
	const char *dir = scratch("mine");
	mkdir(dir, 0755);
	ok(save(dir)); /* an empty folder may be replaced */
	scratch_write(in(dir, "thesis.tex"), "x", 1);
	refused(save(dir), NSSM_EARG, "thesis.tex");
	assert_int_equal(access(in(dir, "thesis.tex"), F_OK), 0);
	unlink(in(dir, "thesis.tex"));
	scratch_write(in(dir, ".DS_Store"), "x", 1);
	scratch_write(in(dir, "config.json.tmp.77"), "x", 1);
	ok(save(dir));
	assert_int_equal(count_entries(dir), 4);
	scratch_write(scratch("plain"), "x", 1);
	refused(save(scratch("plain")), NSSM_EIO, "plain");
	refused(save(scratch("no/such/parent")), NSSM_EIO, "no/such/parent");
	refused(save(""), NSSM_EARG, "folder");
}

/* Killed at any time, the folder is the old one or the new one. */
static void killed(void **state)
{
	const char *dir = scratch("kill");
	ok(save(dir));
	for (int round = 0; round < 12; round++) {
		pid_t pid = fork();
		if (pid == 0) {
			for (;;) {
				params[0] = params[0] > 5 ? 0 : 10;
				if (save(dir) != 0)
					_exit(1);
			}
		}
		usleep((useconds_t)(2000 + 1700 * round));
		kill(pid, SIGKILL);
		int status;
		waitpid(pid, &status, 0);
		assert_true(WIFSIGNALED(status));
		ok(load(dir));
		assert_memory_equal(loaded + 1, params + 1, (n_floats - 1) * sizeof *params);
		assert_true(loaded[0] == params[0] || loaded[0] == 0 || loaded[0] == 10);
	}
	ok(save(dir));
	ok(load(dir));
}

/* A full disk, played by a limit on the size of files: the old checkpoint stays, nothing else is left. */
static void disk_full(void **state)
{
	const char *dir = scratch("full");
	ok(save(dir));
	int before = count_entries(scratch_dir);
	size_t n, m;
	char *old = scratch_read(in(dir, "model.safetensors"), &n);
	signal(SIGXFSZ, SIG_IGN);
	struct rlimit keep, limit;
	getrlimit(RLIMIT_FSIZE, &keep);
	params[1] += 1;
	static const size_t limits[] = {0, 100, 5000, 60000, 0};
	for (size_t i = 0; i < 5; i++) {
		limit = (struct rlimit){.rlim_cur = i == 4 ? n - 1 : limits[i], .rlim_max = keep.rlim_max};
		setrlimit(RLIMIT_FSIZE, &limit);
		int rc = save(dir);
		setrlimit(RLIMIT_FSIZE, &keep);
		refused(rc, NSSM_EIO, "File too large");
		assert_int_equal(count_entries(scratch_dir), before);
		char *now = scratch_read(in(dir, "model.safetensors"), &m);
		assert_int_equal(m, n);
		assert_memory_equal(now, old, n);
		free(now);
	}
	params[1] -= 1;
	free(old);
	ok(load(dir));
}

static void found(void **state)
{
	char out[PATH_MAX];
	const char *run = scratch("run");
	refused(nssm_checkpoint_find(out, run, &err), NSSM_EIO, "no such folder");
	mkdir(run, 0755);
	refused(nssm_checkpoint_find(out, run, &err), NSSM_EIO, "/run/best/config.json");
	assert_non_null(strstr(err.msg, "/run/last/config.json"));
	ok(save(in(run, "last")));
	ok(nssm_checkpoint_find(out, run, &err));
	assert_string_equal(out, in(run, "last"));
	ok(save(in(run, "best")));
	ok(nssm_checkpoint_find(out, run, &err));
	assert_string_equal(out, in(run, "best"));
	ok(nssm_checkpoint_find(out, in(run, "last"), &err));
	assert_string_equal(out, in(run, "last"));
	char *longest = malloc(2 * PATH_MAX);
	memset(longest, 'x', 2 * PATH_MAX - 1);
	longest[2 * PATH_MAX - 1] = '\0';
	refused(nssm_checkpoint_find(out, longest, &err), NSSM_EARG, "too long");
	refused(save(longest), NSSM_EARG, "bytes");
	refused(nssm_checkpoint_load_card(&back, longest, &err), NSSM_EARG, "too long");
	free(longest);
}

/* --- config.json ----------------------------------------------------------------------------- */

/* The saved checkpoint at dir with config.json replaced by j (taken). */
static void put_config(const char *dir, json_t *j)
{
	ok(nssm_json_save(j, in(dir, "config.json"), &err));
	json_decref(j);
}

static void reference_folder(void **state)
{
	const char *dir = scratch("ref");
	ok(save(dir));
	unlink(in(dir, "netssm.json"));
	/* As mamba_ssm writes it, with null for what has its default; unknown top keys are let be. */
	put_config(dir, json_pack("{s:i,s:i,s:i,s:{s:s,s:i,s:i,s:n,s:b},s:[],s:{},s:b,s:b,s:n,s:i,s:s}",
	                        "d_model", 32, "n_layer", 2, "vocab_size", 262, "ssm_cfg", "layer", "Mamba2",
	                        "d_state", 16, "headdim", 16, "d_conv", "rmsnorm", 1, "attn_layer_idx",
	                        "attn_cfg", "rms_norm", 1, "residual_in_fp32", 0, "fused_add_norm",
	                        "pad_vocab_size_multiple", 16, "architectures", "x"));
	ok(nssm_checkpoint_load_card(&back, dir, &err));
	assert_int_equal(back.cfg.D, 32);
	assert_int_equal(back.cfg.L, 2);
	assert_int_equal(back.cfg.E, 64);
	assert_int_equal(back.cfg.H, 4);
	assert_int_equal(back.cfg.K, 4);
	assert_int_equal(back.cfg.Q, 256);
	assert_int_equal(back.cfg.V, 262);
	assert_int_equal(back.cfg.Vpad, 272);
	assert_int_equal(back.codec.kind, NSSM_CODEC_RAW);
	assert_int_equal(back.codec.pkt_len, 128);
	assert_true(back.codec.compat_paper);
	assert_true(back.iat[0].n == 0 && back.iat[1].n == 0);
	ok(nssm_checkpoint_load_weights(loaded, &back, dir, &err));
	assert_memory_equal(loaded, params, n_floats * sizeof *params);
	nssm_model_card_free(&back);
	/* Mamba2's defaults. */
	put_config(dir, json_pack("{s:i,s:i,s:i,s:{s:s}}", "d_model", 64, "n_layer", 1, "vocab_size", 300,
	                        "ssm_cfg", "layer", "Mamba2"));
	ok(nssm_checkpoint_load_card(&back, dir, &err));
	assert_int_equal(back.cfg.N, 128);
	assert_int_equal(back.cfg.P, 64);
	assert_int_equal(back.cfg.vocab_multiple, 8);
	assert_int_equal(back.cfg.Vpad, 304);
	assert_int_equal(back.cfg.V, 300);
	nssm_model_card_free(&back);
}

/* vocab_size against the tokenizer's 262. */
static void vocab_sizes(void **state)
{
	const char *dir = scratch("vs");
	ok(save(dir));
	json_t *j;
	static const struct {
		int vocab_size, rc, V;
	} t[] = {{262, 0, 262}, {32768, 0, 32768}, {257, 0, 262}, {256, NSSM_EFORMAT, 0}};
	for (size_t i = 0; i < 4; i++) {
		ok(nssm_json_load(&j, in(dir, "config.json"), &err));
		json_object_set_new(j, "vocab_size", json_integer(t[i].vocab_size));
		put_config(dir, j);
		int rc = nssm_checkpoint_load_card(&back, dir, &err);
		assert_int_equal(rc, t[i].rc);
		if (rc == 0)
			assert_int_equal(back.cfg.V, t[i].V);
		else
			assert_non_null(strstr(err.msg, "tokenizer.json"));
		nssm_model_card_free(&back);
	}
	struct nssm_mamba2_cfg keep = card.cfg;
	ok(nssm_mamba2_cfg_init(&card.cfg, 32, 2, 2, 16, 16, 4, 256, 16, 32, &err));
	refused(save(scratch("vs2")), NSSM_EARG, "262 tokens");
	card.cfg = keep;
}

static void wrong_config(void **state)
{
	const char *dir = scratch("cfg");
	static const struct {
		const char *key, *value; /* ssm_cfg.x is a key below ssm_cfg; value NULL: removed */
		int code;
		const char *names;
	} t[] = {
	        {"d_model", NULL, NSSM_EFORMAT, "d_model: expected an integer, found missing"},
	        {"n_layer", NULL, NSSM_EFORMAT, "n_layer"},
	        {"vocab_size", NULL, NSSM_EFORMAT, "vocab_size"},
	        {"d_model", "\"32\"", NSSM_EFORMAT, "a string"},
	        {"d_model", "32.0", NSSM_EFORMAT, "not an integer"},
	        {"d_model", "-32", NSSM_ERANGE, "-32"},
	        {"d_model", "9223372036854775807", NSSM_ERANGE, "9223372036854775807"},
	        {"d_model", "33", NSSM_ERANGE, "d_model: 33"},
	        {"n_layer", "0", NSSM_ERANGE, "n_layer"},
	        {"vocab_size", "1000000", NSSM_ERANGE, "vocab_size"},
	        {"pad_vocab_size_multiple", "0", NSSM_ERANGE, "pad_vocab_size_multiple"},
	        {"d_intermediate", "64", NSSM_EUNSUP, "d_intermediate: this version can do 0 only, found 64"},
	        {"attn_layer_idx", "[1]", NSSM_EUNSUP, "attn_layer_idx"},
	        {"rms_norm", "false", NSSM_EUNSUP, "rms_norm"},
	        {"tie_embeddings", "false", NSSM_EUNSUP, "tie_embeddings"},
	        {"ssm_cfg", "[]", NSSM_EFORMAT, "ssm_cfg"},
	        {"ssm_cfg", NULL, NSSM_EUNSUP, "ssm_cfg.layer"},
	        {"ssm_cfg", "{}", NSSM_EUNSUP, "found missing"},
	        {"ssm_cfg.layer", "\"Mamba1\"", NSSM_EUNSUP, "\"Mamba1\""},
	        {"ssm_cfg.layer", "2", NSSM_EUNSUP, "ssm_cfg.layer"},
	        {"ssm_cfg.ngroups", "2", NSSM_EUNSUP, "ssm_cfg.ngroups"},
	        {"ssm_cfg.rmsnorm", "false", NSSM_EUNSUP, "ssm_cfg.rmsnorm"},
	        {"ssm_cfg.norm_before_gate", "true", NSSM_EUNSUP, "ssm_cfg.norm_before_gate"},
	        {"ssm_cfg.D_has_hdim", "true", NSSM_EUNSUP, "ssm_cfg.D_has_hdim"},
	        {"ssm_cfg.bias", "1", NSSM_EUNSUP, "ssm_cfg.bias"},
	        {"ssm_cfg.conv_bias", "false", NSSM_EUNSUP, "ssm_cfg.conv_bias"},
	        {"ssm_cfg.d_ssm", "32", NSSM_EUNSUP, "ssm_cfg.d_ssm"},
	        {"ssm_cfg.dt_limit", "[0.0,1.0]", NSSM_EUNSUP, "ssm_cfg.dt_limit"},
	        {"ssm_cfg.d_state", "17", NSSM_ERANGE, "d_state"},
	        {"ssm_cfg.headdim", "48", NSSM_ERANGE, "headdim"},
	        {"ssm_cfg.d_conv", "9", NSSM_ERANGE, "d_conv"},
	};
	ok(save(dir));
	for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
		json_t *j = NULL;
		ok(save(dir));
		ok(nssm_json_load(&j, in(dir, "config.json"), &err));
		bool sub = strncmp(t[i].key, "ssm_cfg.", 8) == 0;
		json_t *obj = sub ? json_object_get(j, "ssm_cfg") : j;
		const char *key = t[i].key + (sub ? 8 : 0);
		if (t[i].value == NULL)
			json_object_del(obj, key);
		else
			json_object_set_new(obj, key, json_loads(t[i].value, JSON_DECODE_ANY, NULL));
		put_config(dir, j);
		refused(nssm_checkpoint_load_card(&back, dir, &err), t[i].code, t[i].names);
		assert_non_null(strstr(err.msg, "cfg/config.json: "));
		assert_null(back.iat);
	}
	unlink(in(dir, "config.json"));
	refused(nssm_checkpoint_load_card(&back, dir, &err), NSSM_EIO, "config.json");
	ok(save(dir));
	unlink(in(dir, "tokenizer.json"));
	refused(nssm_checkpoint_load_card(&back, dir, &err), NSSM_EIO, "tokenizer.json");
}

static void wrong_netssm(void **state)
{
	const char *dir = scratch("nj");
	ok(save(dir));
	static const struct {
		const char *key, *value;
		int code;
		const char *names;
	} t[] = {
	        {"format", "\"other\"", NSSM_EFORMAT, "format: expected \"netssm\", found other"},
	        {"format", "3", NSSM_EFORMAT, "format"},
	        {"version", "2", NSSM_EUNSUP, "version: expected 1, found 2"},
	        {"version", "\"1\"", NSSM_EFORMAT, "version"},
	        {"codec", "null", NSSM_EFORMAT, "codec"},
	        {"codec", "{\"kind\":\"other\"}", NSSM_EUNSUP, "kind"},
	        {"iat", "[]", NSSM_EFORMAT, "iat"},
	        {"iat", "{\"nolabel\":[]}", NSSM_EFORMAT, "nolabel"},
	        {"iat", "{\"web\":[1,2]}", NSSM_EFORMAT,
	                "iat.web: expected an array of 256 counts, found an array of 2"},
	};
	json_t *j, *good;
	ok(nssm_json_load(&good, in(dir, "netssm.json"), &err));
	for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
		j = json_deep_copy(good);
		json_object_set_new(j, t[i].key, json_loads(t[i].value, JSON_DECODE_ANY, NULL));
		ok(nssm_json_save(j, in(dir, "netssm.json"), &err));
		json_decref(j);
		refused(nssm_checkpoint_load_card(&back, dir, &err), t[i].code, t[i].names);
		assert_null(back.iat);
	}
	/* Single counts: negative, no integer, a sum beyond 2^64. */
	j = json_deep_copy(good);
	json_t *web = json_object_get(json_object_get(j, "iat"), "web");
	json_array_set_new(web, 9, json_integer(-1));
	ok(nssm_json_save(j, in(dir, "netssm.json"), &err));
	refused(nssm_checkpoint_load_card(&back, dir, &err), NSSM_EFORMAT, "iat.web[9]");
	json_array_set_new(web, 9, json_real(1.5));
	ok(nssm_json_save(j, in(dir, "netssm.json"), &err));
	refused(nssm_checkpoint_load_card(&back, dir, &err), NSSM_EFORMAT, "iat.web[9]");
	for (size_t i = 0; i < 3; i++)
		json_array_set_new(web, i + 8, json_integer(INT64_MAX));
	ok(nssm_json_save(j, in(dir, "netssm.json"), &err));
	refused(nssm_checkpoint_load_card(&back, dir, &err), NSSM_ERANGE, "iat.web");
	/* A label without times is as one that was never seen. */
	json_object_del(json_object_get(j, "iat"), "web");
	ok(nssm_json_save(j, in(dir, "netssm.json"), &err));
	ok(nssm_checkpoint_load_card(&back, dir, &err));
	assert_true(back.iat[0].n == 0 && back.iat[1].n == card.iat[1].n);
	nssm_model_card_free(&back);
	json_decref(j);
	json_decref(good);
}

/* --- model.safetensors ----------------------------------------------------------------------- */

enum { MAX_OUT = 32 };

/* The model's tensors as a list to write, for a test to change; returns their number. */
static int list(struct nssm_st_out out[MAX_OUT], struct nssm_tensor t[MAX_OUT])
{
	int n = nssm_mamba2_tensors(&card.cfg, t);
	for (int i = 0; i < n; i++)
		out[i] = (struct nssm_st_out){t[i].name, t[i].n_dims,
		        {(uint64_t)t[i].dim[0], (uint64_t)t[i].dim[1], (uint64_t)t[i].dim[2]},
		        params + t[i].offset};
	return n;
}

static void wrong_weights(void **state)
{
	const char *dir = scratch("st");
	struct nssm_tensor t[MAX_OUT];
	struct nssm_st_out out[MAX_OUT], last;
	int n = list(out, t);
	assert_int_equal(n, 20);
	ok(save(dir));
	const char *path = in(scratch_dir, "st/model.safetensors");

	out[n] = (struct nssm_st_out){"lm_head.weight", 2, {272, 32}, params};
	ok(nssm_st_write(path, out, n + 1, NSSM_F16, NULL, &err));
	ok(load(dir));
	out[n].data = params + 1;
	ok(nssm_st_write(path, out, n + 1, NSSM_F32, NULL, &err));
	refused(load(dir), NSSM_EUNSUP, "lm_head.weight");
	out[n] = (struct nssm_st_out){"lm_head.weight", 2, {1, 32}, params};
	ok(nssm_st_write(path, out, n + 1, NSSM_F32, NULL, &err));
	refused(load(dir), NSSM_EUNSUP, "lm_head.weight");
	out[n] = (struct nssm_st_out){"backbone.layers.2.norm.weight", 1, {32}, params};
	ok(nssm_st_write(path, out, n + 1, NSSM_F32, NULL, &err));
	refused(load(dir), NSSM_EFORMAT, "\"backbone.layers.2.norm.weight\"");

	/* Any one missing, any one of another shape. */
	for (int i = 0; i < n; i++) {
		last = out[i];
		out[i] = out[n - 1];
		ok(nssm_st_write(path, out, n - 1, NSSM_F32, NULL, &err));
		refused(load(dir), NSSM_EFORMAT, t[i].name);
		assert_non_null(strstr(err.msg, "missing"));
		out[i] = last;
		out[i].dim[0]--;
		ok(nssm_st_write(path, out, n, NSSM_F32, NULL, &err));
		refused(load(dir), NSSM_EFORMAT, t[i].name);
		assert_non_null(strstr(err.msg, "expected shape"));
		out[i].dim[0]++;
	}
	/* As many elements, other sizes. */
	for (int i = 0; i < n; i++) {
		if (out[i].n_dims != 2)
			continue;
		out[i].dim[0] *= 2;
		out[i].dim[1] /= 2;
		ok(nssm_st_write(path, out, n, NSSM_F32, NULL, &err));
		refused(load(dir), NSSM_EFORMAT, "expected shape");
		out[i].dim[0] /= 2;
		out[i].dim[1] *= 2;
	}
	/* The embedding with the vocabulary's own rows; the others are zero. */
	out[0].dim[0] = 262;
	ok(nssm_st_write(path, out, n, NSSM_F32, NULL, &err));
	ok(load(dir));
	assert_memory_equal(loaded, params, n_floats * sizeof *params);
	out[n] = (struct nssm_st_out){"lm_head.weight", 2, {262, 32}, params};
	ok(nssm_st_write(path, out, n + 1, NSSM_F32, NULL, &err));
	ok(load(dir));
	assert_memory_equal(loaded, params, n_floats * sizeof *params);
}

static void cut_short(void **state)
{
	const char *dir = scratch("cut");
	ok(save(dir));
	size_t n;
	char *file = scratch_read(in(dir, "model.safetensors"), &n);
	for (size_t keep = 0; keep < n; keep += keep < 64 || keep > n - 64 ? 1 : 997) {
		scratch_write(in(dir, "model.safetensors"), file, keep);
		refused(load(dir), NSSM_EFORMAT, "model.safetensors");
	}
	free(file);
	unlink(in(dir, "model.safetensors"));
	refused(load(dir), NSSM_EIO, "model.safetensors");
	scratch_write(in(dir, "pytorch_model.bin"), "x", 1);
	refused(load(dir), NSSM_EUNSUP, "convert_checkpoint.py");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(round_trip),
	        cmocka_unit_test(half_dtypes),
	        cmocka_unit_test(replaced),
	        cmocka_unit_test(foreign_files_are_kept),
	        cmocka_unit_test(killed),
	        cmocka_unit_test(disk_full),
	        cmocka_unit_test(found),
	        cmocka_unit_test(reference_folder),
	        cmocka_unit_test(vocab_sizes),
	        cmocka_unit_test(wrong_config),
	        cmocka_unit_test(wrong_netssm),
	        cmocka_unit_test(wrong_weights),
	        cmocka_unit_test(cut_short),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
