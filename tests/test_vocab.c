/* vocab: the layout of new tables, JSON round trips, the published tables' form, and every way a table can be
 * wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/jsonfile.h"
#include "model/vocab.h"
#include "tests/scratch.h"

/* Large, and compared as bytes: zeroed storage. */
static struct nssm_vocab v, w;
static struct nssm_err err;

static void new_table(void **state)
{
	nssm_vocab_init(&v);
	assert_int_equal(v.n_tokens, 260);
	for (int b = 0; b < 256; b++) {
		assert_int_equal(v.byte_id[b], b);
		assert_int_equal(v.kind[b], NSSM_TOK_BYTE);
		assert_int_equal(v.value[b], b);
	}
	assert_int_equal(v.unk, 256);
	assert_int_equal(v.eot, 257);
	assert_int_equal(v.pad, 258);
	assert_int_equal(v.pkt, 259);
	assert_int_equal(v.kind[259], NSSM_TOK_PKT);
	assert_int_equal(v.kind[260], NSSM_TOK_NONE);
	assert_int_equal(nssm_vocab_add_label(&v, "netflix", &err), 0);
	assert_int_equal(nssm_vocab_add_label(&v, "a.b:c+d-e_F9", &err), 1);
	assert_int_equal(nssm_vocab_add_label(&v, "netflix", &err), 0);
	assert_int_equal(v.n_labels, 2);
	assert_int_equal(v.label[1].id, 261);
	assert_int_equal(v.kind[261], NSSM_TOK_LABEL);
	assert_int_equal(v.value[261], 1);
	assert_int_equal(nssm_vocab_find_label(&v, "a.b:c+d-e_F9"), 1);
	assert_int_equal(nssm_vocab_find_label(&v, "a.b"), -1);
}

static void label_names(void **state)
{
	char longest[NSSM_LABEL_BYTES + 1] = {0};
	memset(longest, 'x', NSSM_LABEL_BYTES - 1);
	nssm_vocab_init(&v);
	assert_int_equal(nssm_vocab_add_label(&v, longest, &err), 0);
	longest[NSSM_LABEL_BYTES - 1] = 'x';
	static const char *const bad[] = {
	        "", "a b", "a|b", "<|x|>", "\xc3\xa9", "a\n", "a/b", "unk", "endoftext", "padding", "pkt"};
	assert_int_equal(nssm_vocab_add_label(&v, longest, &err), NSSM_EARG);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		assert_int_equal(nssm_vocab_add_label(&v, bad[i], &err), NSSM_EARG);
		assert_non_null(strstr(err.msg, "label"));
	}
	assert_int_equal(v.n_labels, 1);
}

static void full_table(void **state)
{
	char name[16];
	nssm_vocab_init(&v);
	for (int i = 260; i < NSSM_VOCAB_MAX; i++) {
		snprintf(name, sizeof name, "l%d", i);
		assert_int_equal(nssm_vocab_add_label(&v, name, &err), i - 260);
	}
	assert_int_equal(nssm_vocab_add_label(&v, "onemore", &err), NSSM_ERANGE);
	json_t *j = nssm_vocab_to_json(&v);
	assert_int_equal(nssm_vocab_from_json(&w, j, "full", &err), 0);
	assert_memory_equal(&v, &w, sizeof v);
	/* Without <|unk|> there is room for one label more than the table of labels holds. */
	json_t *vocab = json_object_get(json_object_get(j, "model"), "vocab");
	json_object_del(vocab, "<|unk|>");
	json_object_set_new(vocab, "<|onemore|>", json_integer(256));
	json_object_del(j, "added_tokens");
	assert_int_equal(nssm_vocab_from_json(&w, j, "full", &err), NSSM_ERANGE);
	json_decref(j);
}

static void round_trip(void **state)
{
	nssm_vocab_init(&v);
	nssm_vocab_add_label(&v, "web", &err);
	nssm_vocab_add_label(&v, "dns", &err);
	const char *path = scratch("tokenizer.json");
	assert_int_equal(nssm_vocab_save(&v, path, &err), 0);
	assert_int_equal(nssm_vocab_load(&w, path, &err), 0);
	assert_memory_equal(&v, &w, sizeof v);

	/* What Hugging Face tokenizers asks for. */
	json_t *j;
	assert_int_equal(nssm_json_load(&j, path, &err), 0);
	assert_string_equal(json_string_value(json_object_get(j, "version")), "1.0");
	static const char *const nulls[] = {
	        "truncation", "padding", "normalizer", "post_processor", "decoder"};
	for (size_t i = 0; i < sizeof nulls / sizeof nulls[0]; i++)
		assert_true(json_is_null(json_object_get(j, nulls[i])));
	json_t *model = json_object_get(j, "model"), *added = json_object_get(j, "added_tokens");
	assert_string_equal(json_string_value(json_object_get(json_object_get(j, "pre_tokenizer"), "type")),
	        "WhitespaceSplit");
	assert_string_equal(json_string_value(json_object_get(model, "type")), "WordLevel");
	assert_string_equal(json_string_value(json_object_get(model, "unk_token")), "<|unk|>");
	assert_int_equal(json_object_size(json_object_get(model, "vocab")), 262);
	assert_int_equal(
	        json_integer_value(json_object_get(json_object_get(model, "vocab"), "<|dns|>")), 261);
	assert_int_equal(json_array_size(added), 6);
	json_t *t = json_array_get(added, 4);
	assert_int_equal(json_integer_value(json_object_get(t, "id")), 260);
	assert_string_equal(json_string_value(json_object_get(t, "content")), "<|web|>");
	assert_true(json_is_true(json_object_get(t, "special")));
	static const char *const off[] = {"single_word", "lstrip", "rstrip", "normalized"};
	for (size_t i = 0; i < sizeof off / sizeof off[0]; i++)
		assert_true(json_is_false(json_object_get(t, off[i])));
	json_decref(j);
}

/* The published tables' form: BPE, special tokens and the label first, bytes in an order of their own, a
 * stray entry. */
static json_t *published(void)
{
	static const char *const first[] = {"<|endoftext|>", "<|padding|>", "<|pkt|>", "<|netflix|>"};
	json_t *vocab = json_object(), *added = json_array();
	for (int i = 0; i < 4; i++) {
		json_object_set_new(vocab, first[i], json_integer(i));
		json_array_append_new(
		        added, json_pack("{s:i,s:s,s:b}", "id", i, "content", first[i], "special", 1));
	}
	for (int i = 0; i < 256; i++) {
		char s[8];
		snprintf(s, sizeof s, "%d", i * 77 % 256);
		json_object_set_new(vocab, s, json_integer(4 + i + (i >= 100)));
	}
	json_object_set_new(vocab, "256", json_integer(104)); /* in the middle */
	json_object_set_new(vocab, "007", json_integer(300));
	return json_pack("{s:s,s:o,s:{s:s,s:o,s:[s]}}", "version", "1.0", "added_tokens", added, "model",
	        "type", "BPE", "vocab", vocab, "merges", "1 2");
}

static void published_table(void **state)
{
	json_t *j = published();
	assert_int_equal(nssm_vocab_from_json(&v, j, "published", &err), 0);
	json_decref(j);
	assert_int_equal(v.eot, 0);
	assert_int_equal(v.pad, 1);
	assert_int_equal(v.pkt, 2);
	assert_int_equal(v.unk, 0xffff);
	assert_int_equal(v.n_labels, 1);
	assert_string_equal(v.label[0].name, "netflix");
	assert_int_equal(v.label[0].id, 3);
	assert_int_equal(v.byte_id[77], 5);
	assert_int_equal(v.value[5], 77);
	assert_int_equal(v.kind[104], NSSM_TOK_NONE);
	assert_int_equal(v.kind[300], NSSM_TOK_NONE);
	assert_int_equal(v.n_tokens, 261);
	/* Written as WordLevel and read again it is the same table. */
	j = nssm_vocab_to_json(&v);
	assert_int_equal(nssm_vocab_from_json(&w, j, "again", &err), 0);
	assert_memory_equal(&v, &w, sizeof v);
	json_decref(j);
	assert_int_equal(nssm_vocab_add_label(&v, "new", &err), 1);
	assert_int_equal(v.label[1].id, 261);
}

/* Labels get their indexes by id, whatever the order in the file. */
static void label_order(void **state)
{
	json_t *j = published(), *vocab = json_object_get(json_object_get(j, "model"), "vocab");
	json_object_set_new(vocab, "<|zz|>", json_integer(301));
	json_object_set_new(vocab, "<|aa|>", json_integer(302));
	json_object_set_new(vocab, "<|mm|>", json_integer(299));
	/* One that only added_tokens has. */
	json_array_append_new(json_object_get(j, "added_tokens"),
	        json_pack("{s:i,s:s}", "id", 298, "content", "<|only_added|>"));
	assert_int_equal(nssm_vocab_from_json(&v, j, "order", &err), 0);
	json_decref(j);
	static const char *const want[] = {"netflix", "only_added", "mm", "zz", "aa"};
	assert_int_equal(v.n_labels, 5);
	for (int i = 0; i < 5; i++)
		assert_string_equal(v.label[i].name, want[i]);
	assert_int_equal(v.n_tokens, 303);
}

/* Changes one thing in a good table and wants the code, and a message that names path and key. */
#define BAD(code_, names, change)                                                                            \
	do {                                                                                                 \
		json_t *j = published(), *model = json_object_get(j, "model");                               \
		json_t *vocab = json_object_get(model, "vocab"),                                             \
		       *added = json_object_get(j, "added_tokens");                                          \
		(void)vocab;                                                                                 \
		(void)added;                                                                                 \
		change;                                                                                      \
		assert_int_equal(nssm_vocab_from_json(&v, j, "some/path", &err), code_);                     \
		assert_non_null(strstr(err.msg, "some/path"));                                               \
		assert_non_null(strstr(err.msg, names));                                                     \
		json_decref(j);                                                                              \
	} while (0)

static void wrong_tables(void **state)
{
	BAD(NSSM_EFORMAT, "model", json_object_del(j, "model"));
	BAD(NSSM_EFORMAT, "model.type", json_object_del(model, "type"));
	BAD(NSSM_EUNSUP, "Unigram", json_object_set_new(model, "type", json_string("Unigram")));
	BAD(NSSM_EFORMAT, "model.vocab", json_object_set_new(model, "vocab", json_array()));
	BAD(NSSM_EFORMAT, "\"77\"", json_object_del(vocab, "77"));
	BAD(NSSM_EFORMAT, "<|pkt|>", json_object_del(vocab, "<|pkt|>"); json_array_remove(added, 2));
	BAD(NSSM_EFORMAT, "<|endoftext|>", json_object_del(vocab, "<|endoftext|>");
	        json_array_remove(added, 0));
	BAD(NSSM_EFORMAT, "<|padding|>", json_object_del(vocab, "<|padding|>"); json_array_remove(added, 1));
	BAD(NSSM_EFORMAT, "one token an id", json_object_set_new(vocab, "stray", json_integer(17)));
	BAD(NSSM_EFORMAT, "one token an id", json_object_set_new(vocab, "12", json_integer(17)));
	BAD(NSSM_ERANGE, "4096", json_object_set_new(vocab, "12", json_integer(NSSM_VOCAB_MAX)));
	BAD(NSSM_ERANGE, "-1", json_object_set_new(vocab, "12", json_integer(-1)));
	BAD(NSSM_ERANGE, "9223372036854775807", json_object_set_new(vocab, "12", json_integer(INT64_MAX)));
	BAD(NSSM_EFORMAT, "a string", json_object_set_new(vocab, "12", json_string("5")));
	BAD(NSSM_EFORMAT, "not an integer", json_object_set_new(vocab, "12", json_real(5.0)));
	BAD(NSSM_EFORMAT, "<|a b|>", json_object_set_new(vocab, "<|a b|>", json_integer(400)));
	BAD(NSSM_EFORMAT, "<||>", json_object_set_new(vocab, "<||>", json_integer(400)));
	BAD(NSSM_EFORMAT, "<|??[2J|>", json_object_set_new(vocab, "<|\x1b\x7f[2J|>", json_integer(400)));
	BAD(NSSM_EFORMAT, "added_tokens", json_object_set_new(j, "added_tokens", json_integer(1)));
	BAD(NSSM_EFORMAT, "added_tokens[4].content", json_array_append_new(added, json_null()));
	BAD(NSSM_EFORMAT, "expected 3 as before, found 9",
	        json_object_set_new(json_array_get(added, 3), "id", json_integer(9)));
	BAD(NSSM_ERANGE, "added_tokens",
	        json_array_append_new(added, json_pack("{s:i,s:s}", "id", 5000, "content", "<|x|>")));
	BAD(NSSM_EFORMAT, "expected 600 as before, found 601",
	        json_array_append_new(added, json_pack("{s:i,s:s}", "id", 600, "content", "<|x|>"));
	        json_array_append_new(added, json_pack("{s:i,s:s}", "id", 601, "content", "<|x|>")));
}

/* A message's bytes are as a terminal should get them, and a name's length is bounded. */
static void quoting(void **state)
{
	char long_name[200];
	memset(long_name, 'y', sizeof long_name - 1);
	long_name[sizeof long_name - 1] = '\0';
	assert_string_equal(nssm_quote("a\tb\xff").s, "a?b?");
	assert_int_equal(strlen(nssm_quote(long_name).s), 83);
}

static void wrong_files(void **state)
{
	const char *path = scratch("bad.json");
	static const struct {
		const char *text, *names;
	} bad[] = {
	        {"", "empty"},
	        {"[]", "an array"},
	        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"1\":1,\"1\":2}}}", "duplicate"},
	        {"{\"model\":", "line 1"},
	        {"{} x", "line 1"},
	        {"{\"model\":{\"vocab\":{\"a\\u0000b\":1}}}", "line 1"},
	        {"{\"model\":{\"vocab\":{\"a\":18446744073709551616}}}", "line 1"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		scratch_write(path, bad[i].text, strlen(bad[i].text));
		assert_int_equal(nssm_vocab_load(&v, path, &err), NSSM_EFORMAT);
		assert_non_null(strstr(err.msg, bad[i].names));
		assert_non_null(strstr(err.msg, path));
	}
	assert_int_equal(nssm_vocab_load(&v, scratch("nowhere.json"), &err), NSSM_EIO);
	/* Nesting as deep as the file is long. */
	static char deep[200000];
	memset(deep, '[', sizeof deep);
	memcpy(deep, "{\"a\":", 5);
	scratch_write(path, deep, sizeof deep);
	assert_int_equal(nssm_vocab_load(&v, path, &err), NSSM_EFORMAT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(new_table),
	        cmocka_unit_test(label_names),
	        cmocka_unit_test(full_table),
	        cmocka_unit_test(round_trip),
	        cmocka_unit_test(published_table),
	        cmocka_unit_test(label_order),
	        cmocka_unit_test(wrong_tables),
	        cmocka_unit_test(wrong_files),
	        cmocka_unit_test(quoting),
	};
	return cmocka_run_group_tests(tests, scratch_open, scratch_close);
}
