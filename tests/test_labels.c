/* The CSV of labels: RFC 4180's corners, what is refused, and which row a capture's path finds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "replay/labels.h"

static struct nssm_err err;

static struct nssm_labels *load_n(const char *csv, size_t n)
{
	struct nssm_labels *l;
	/* Without a NUL behind it: a reader that goes too far is found by the sanitizer. */
	char *exact = malloc(n ? n : 1);
	assert_non_null(exact);
	memcpy(exact, csv, n);
	int rc = nssm_labels_load_mem(&l, exact, n, "l.csv", &err);
	free(exact);
	assert_true((rc == 0) == (l != NULL));
	if (rc != 0)
		assert_int_equal(rc, err.code);
	return l;
}

static struct nssm_labels *load(const char *csv)
{
	return load_n(csv, strlen(csv));
}

static void expect_row(const struct nssm_labels *l, uint32_t i, const char *file, const char *label,
        const char *split, uint32_t line)
{
	assert_true(i < l->n);
	assert_string_equal(l->row[i].file, file);
	assert_string_equal(l->row[i].label, label);
	assert_string_equal(l->row[i].split, split);
	assert_int_equal(l->row[i].line, line);
}

static void fields_are_cut_as_rfc_4180_says(void **state)
{
	/* The same table, as different programs write it. */
	static const char *const csv[] = {
	        "File,Label\na.pcap,x\nb c.pcap,y\n",
	        "File,Label\na.pcap,x\nb c.pcap,y",
	        "File,Label\r\na.pcap,x\r\nb c.pcap,y\r\n",
	        "File,Label\r\na.pcap,x\r\nb c.pcap,y\r",
	        "\xef\xbb\xbf"
	        "File,Label\na.pcap,x\nb c.pcap,y\n",
	        "\xef\xbb\xbf\"File\",\"Label\"\r\n\"a.pcap\",\"x\"\r\n\"b c.pcap\",\"y\"\r\n",
	        "File,Label,,\n./a.pcap,x,,\n\"b c.pcap\",y\n\n,,,\n\r\n",
	};
	for (size_t i = 0; i < sizeof csv / sizeof *csv; i++) {
		struct nssm_labels *l = load(csv[i]);
		assert_non_null(l);
		assert_int_equal(l->n, 2);
		assert_false(l->has_split);
		expect_row(l, 0, "a.pcap", "x", "", 2);
		expect_row(l, 1, "b c.pcap", "y", "", 3);
		nssm_labels_close(&l);
		assert_null(l);
	}
	/* Comma, quote, LF and CRLF inside quotes; a quote that is none because it does not come first. */
	struct nssm_labels *l = load("Note,Split,Label,File\n"
	                             "\"1,\"\"2\"\"\r\n3\",train,x,\"a,b\"\"c\"\"\n.pcap\"\n"
	                             "\"\",,y,d\"e\".pcap\n");
	assert_non_null(l);
	assert_true(l->has_split);
	assert_int_equal(l->n, 2);
	expect_row(l, 0, "a,b\"c\"\n.pcap", "x", "train", 2);
	expect_row(l, 1, "d\"e\".pcap", "y", "", 5);
	nssm_labels_close(&l);
	/* A header alone names no capture. */
	l = load("File,Label");
	assert_non_null(l);
	assert_int_equal(l->n, 0);
	struct nssm_label_row *row;
	assert_int_equal(nssm_labels_find(l, "a.pcap", &row, &err), 0);
	assert_null(row);
	nssm_labels_close(&l);
}

static void what_is_no_such_table_is_refused(void **state)
{
	static const struct {
		const char *csv, *word;
	} bad[] = {
	        {"", "l.csv: empty"},
	        {"\xef\xbb\xbf", "l.csv:1: expected a header"},
	        {"\n\n", "l.csv:1: expected a header"},
	        {"file,label\na,b\n", "l.csv:1: expected a header"},
	        {"File;Label\na;b\n", "l.csv:1: expected a header"},
	        {"File\na\n", "l.csv:1: expected a header"},
	        {"Label,File,Label\na,b,c\n", "l.csv:1: the column Label is there twice"},
	        {"File,Label\na,b\n\"c,d\n", "l.csv:3: column 1: a quote is opened and never closed"},
	        {"File,Label\na,\"b\"c\n", "l.csv:2: column 2: a quoted field goes on"},
	        {"File,Label\n\"a\nb\",x\nc\n", "l.csv:4: 1 columns"},
	        {"File,Label,Split\na,b\n", "l.csv:2: 2 columns"},
	        {"File,Label\na,b.pcap,web\n", "l.csv:2: 3 columns"},
	        {"File,Label\n,web\n", "l.csv:2: the column File is empty"},
	        {"File,Label\n./,web\n", "l.csv:2: the column File is empty"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct nssm_labels *l = load(bad[i].csv);
		if (l != NULL)
			print_error("taken: %s\n", bad[i].csv);
		assert_null(l);
		if (strncmp(err.msg, bad[i].word, strlen(bad[i].word)) != 0)
			print_error("found: %s\nexpected: %s\n", err.msg, bad[i].word);
		assert_memory_equal(err.msg, bad[i].word, strlen(bad[i].word));
	}
	static const char nul[] = "File,Label\na,b\0c\n";
	assert_null(load_n(nul, sizeof nul - 1));
	assert_non_null(strstr(err.msg, "zero byte"));
	char wide[1024] = "File,Label";
	memset(wide + 10, ',', 300);
	assert_null(load(wide));
	assert_non_null(strstr(err.msg, "more than 256 columns"));
	struct nssm_labels *l;
	assert_int_equal(nssm_labels_load(&l, "/nonexistent.csv", &err), NSSM_EIO);
	assert_null(l);
	assert_non_null(strstr(err.msg, "/nonexistent.csv"));
}

/* label "": no row; "!": two that disagree. */
static void expect(struct nssm_labels *l, const char *path, const char *label)
{
	struct nssm_label_row *row;
	int rc = nssm_labels_find(l, path, &row, &err);
	const char *found = rc != 0 ? "!" : row == NULL ? "" : row->label;
	if (strcmp(found, label) != 0)
		print_error("%s\n", path);
	assert_string_equal(found, label);
}

static void a_path_finds_its_row(void **state)
{
	struct nssm_labels *l = load("File,Label\n"
	                             "x.pcap,base\n"
	                             "a/x.pcap,in-a\n"
	                             "top/b/y.pcap,deep\n"
	                             "a/z.pcap,in-a\n"
	                             "/abs/q.pcap,abs\n"
	                             "p/m.pcap,one\n"
	                             "r/m.pcap,two\n");
	assert_non_null(l);
	expect(l, "x.pcap", "base");
	expect(l, "./x.pcap", "base");
	expect(l, "a/x.pcap", "in-a");
	expect(l, "b/x.pcap", "base");
	/* The folder was named from further down, or from further up. */
	expect(l, "b/y.pcap", "deep");
	expect(l, "y.pcap", "deep");
	expect(l, "here/top/b/y.pcap", "deep");
	/* Another folder's file of the same name, or a name that only ends alike, is another file. */
	expect(l, "c/y.pcap", "");
	expect(l, "b/z.pcap", "");
	expect(l, "xx.pcap", "");
	expect(l, "zz.pcap", "");
	expect(l, "pcap", "");
	expect(l, "q.pcap", "abs");
	expect(l, "/abs/q.pcap", "abs");
	expect(l, "p/m.pcap", "one");
	expect(l, "k/r/m.pcap", "two");
	expect(l, "m.pcap", "!");
	assert_non_null(strstr(err.msg, "l.csv:8: m.pcap"));
	assert_non_null(strstr(err.msg, "line 7"));
	nssm_labels_close(&l);
}

static void a_file_named_twice(void **state)
{
	struct nssm_labels *l = load("File,Label,Split\n"
	                             "same.pcap,x,train\nsame.pcap,x,train\n"
	                             "label.pcap,x,train\nlabel.pcap,y,train\n"
	                             "split.pcap,x,train\nsplit.pcap,x,val\n");
	assert_non_null(l);
	expect(l, "same.pcap", "x");
	/* Both rows had their capture. */
	assert_true(l->row[0].used && l->row[1].used && !l->row[2].used);
	expect(l, "label.pcap", "!");
	assert_non_null(
	        strstr(err.msg, "l.csv:5: label.pcap: labelled \"y,train\" here and \"x,train\" in line 4"));
	expect(l, "split.pcap", "!");
	assert_non_null(strstr(err.msg, "\"x,val\" here and \"x,train\" in line 6"));
	nssm_labels_close(&l);
}

/* Many rows in no order: each finds its own. */
static void many_rows(void **state)
{
	enum { N = 5000 };
	char *csv = malloc(64 * N);
	assert_non_null(csv);
	size_t n = (size_t)sprintf(csv, "Label,File\n");
	for (int i = 0; i < N; i++)
		n += (size_t)sprintf(csv + n, "l%d,d%d/%d.pcap\n", i, i * 7919 % N % 50, i * 7919 % N / 50);
	struct nssm_labels *l = load(csv);
	assert_non_null(l);
	assert_int_equal(l->n, N);
	for (int i = 0; i < N; i++) {
		char path[64], label[16];
		sprintf(path, "d%d/%d.pcap", i * 7919 % N % 50, i * 7919 % N / 50);
		sprintf(label, "l%d", i);
		expect(l, path, label);
	}
	nssm_labels_close(&l);
	free(csv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(fields_are_cut_as_rfc_4180_says),
	        cmocka_unit_test(what_is_no_such_table_is_refused),
	        cmocka_unit_test(a_path_finds_its_row),
	        cmocka_unit_test(a_file_named_twice),
	        cmocka_unit_test(many_rows),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
