/* What the writer writes, against bytes made by hand; disks that are full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/capture_read.h"

static void write_frames(const char *path, bool ns, uint32_t snaplen, int n, struct nssm_err *err)
{
	struct nssm_capture_writer *w;
	assert_int_equal(nssm_capture_create(&w, path, ns, snaplen, err), 0);
	for (int i = 0; i < n; i++) {
		uint64_t ts = (uint64_t)(S0 + (uint32_t)i) * 1000000000 + 123456789;
		assert_int_equal(nssm_capture_write(
		                         w, ts, frame_bytes[i % 3], FRAME_CAP[i % 3], FRAME_WIRE[i % 3], err),
		        0);
	}
	assert_int_equal(nssm_capture_commit(&w, err), 0);
	assert_null(w);
}

/* What is written is, byte for byte, what a capture made by hand is. */
static void test_write(void **state)
{
	(void)state;
	char path[PATH_MAX];
	in_dir(path, "out.pcap");
	for (int ns = 0; ns < 2; ns++) {
		for (uint32_t snaplen = 0; snaplen <= 70; snaplen += 70) {
			struct nssm_err err;
			write_frames(path, ns, snaplen, 3, &err);
			struct build b;
			build_pcap(&b, false, ns, snaplen != 0 ? snaplen : 262144, ETH);
			for (uint32_t i = 0; i < 3; i++) {
				uint32_t cap =
				        snaplen != 0 && FRAME_CAP[i] > snaplen ? snaplen : FRAME_CAP[i];
				build_record(&b, S0 + i, ns ? 123456789 : 123456, frame_bytes[i], cap,
				        FRAME_WIRE[i]);
			}
			struct nssm_map m;
			assert_int_equal(nssm_map_open(&m, path, &err), 0);
			assert_int_equal(m.len, b.len);
			assert_memory_equal(m.data, b.data, b.len);
			nssm_map_close(&m);
			build_free(&b);
			struct got g;
			read_path(&g, path);
			assert_int_equal(g.rc, 0);
			assert_int_equal(g.n, 3);
			assert_int_equal(g.info.ns, ns);
		}
	}
	assert_int_equal(unlink(path), 0);
}

static void test_write_stdout(void **state)
{
	(void)state;
	char path[64];
	struct nssm_err err;
	fflush(stdout);
	int fd = build_memfd("", 0, path), old = dup(STDOUT_FILENO);
	dup2(fd, STDOUT_FILENO);
	write_frames("-", true, 0, 3000, &err);
	dup2(old, STDOUT_FILENO);
	close(old);
	struct got g;
	read_path(&g, path);
	close(fd);
	assert_int_equal(g.rc, 0);
	assert_int_equal(g.n, 3000);
	assert_int_equal(g.info.n_bytes, 1000 * (60 + 77 + 96));
}

static void test_write_refused(void **state)
{
	(void)state;
	char path[PATH_MAX];
	in_dir(path, "refused.pcap");
	struct nssm_err err = {0};
	struct nssm_capture_writer *w;
	uint8_t *big = calloc(1, NSSM_CAPTURE_CAPLEN_MAX + 1);
	assert_non_null(big);
	assert_int_equal(nssm_capture_create(&w, path, true, 0, &err), 0);
	assert_int_equal(
	        nssm_capture_write(w, 4294967295999999999u, big, NSSM_CAPTURE_CAPLEN_MAX, UINT32_MAX, &err),
	        0);
	assert_int_equal(nssm_capture_write(w, 4294967296000000000u, big, 60, 60, &err), NSSM_ERANGE);
	assert_non_null(strstr(err.msg, "refused.pcap: packet 2: "));
	/* The first error stays and commit returns it; nothing is left behind. */
	assert_int_equal(nssm_capture_write(w, 0, big, 60, 60, NULL), NSSM_ERANGE);
	assert_int_equal(nssm_capture_commit(&w, &err), NSSM_ERANGE);
	assert_int_not_equal(access(path, F_OK), 0);

	assert_int_equal(nssm_capture_create(&w, path, true, 0, &err), 0);
	assert_int_equal(
	        nssm_capture_write(w, 0, big, NSSM_CAPTURE_CAPLEN_MAX + 1, NSSM_CAPTURE_CAPLEN_MAX + 1, &err),
	        NSSM_ERANGE);
	nssm_capture_abort(&w);
	assert_null(w);
	nssm_capture_abort(&w);
	assert_int_not_equal(access(path, F_OK), 0);
	free(big);

	assert_int_equal(nssm_capture_create(&w, "/nonexistent/out.pcap", true, 0, &err), NSSM_EIO);
	assert_non_null(strstr(err.msg, "/nonexistent/out.pcap"));
	assert_null(w);
}

/* Writes until the file may grow no more. Exit status 0: the error came and named the file. */
static int fill_disk(const char *path)
{
	/* Past the limit a write fails with EFBIG, as one to a full disk does with ENOSPC. */
	signal(SIGXFSZ, SIG_IGN);
	struct rlimit lim = {.rlim_cur = 3 << 20, .rlim_max = 3 << 20};
	struct nssm_err err = {0};
	struct nssm_capture_writer *w;
	if (setrlimit(RLIMIT_FSIZE, &lim) != 0 || nssm_capture_create(&w, path, true, 0, &err) != 0)
		return 2;
	for (int i = 0; i < 50000; i++)
		(void)nssm_capture_write(w, (uint64_t)i, frame_bytes[2], 96, 96, NULL);
	if (nssm_capture_commit(&w, &err) != NSSM_EIO || w != NULL)
		return 3;
	return strstr(err.msg, path) != NULL && strstr(err.msg, "offset") != NULL ? 0 : 4;
}

static void test_disk_full(void **state)
{
	(void)state;
	char path[PATH_MAX];
	in_dir(path, "full.pcap");
	struct nssm_err err;
	assert_int_equal(nssm_file_write(path, "old", 3, &err), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(fill_disk(path));
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	struct nssm_map m;
	assert_int_equal(nssm_map_open(&m, path, &err), 0);
	assert_int_equal(m.len, 3);
	assert_memory_equal(m.data, "old", 3);
	nssm_map_close(&m);
	assert_int_equal(unlink(path), 0);
	/* No temporary file: the folder is empty, or it could not be removed and made again. */
	assert_int_equal(rmdir(tmp_dir), 0);
	assert_int_equal(mkdir(tmp_dir, 0700), 0);
}

/* A device is written to, not renamed over; this one is always full. */
static void test_full_device(void **state)
{
	(void)state;
	struct nssm_err err = {0};
	struct nssm_capture_writer *w;
	if (nssm_capture_create(&w, "/dev/full", true, 0, &err) != 0) {
		skip();
		return;
	}
	assert_int_equal(nssm_capture_write(w, 0, frame_bytes[0], 60, 60, &err), 0);
	assert_int_equal(nssm_capture_commit(&w, &err), NSSM_EIO);
	assert_non_null(strstr(err.msg, "/dev/full: cannot write at offset 0: No space left"));
	struct stat st;
	assert_int_equal(stat("/dev/full", &st), 0);
	assert_true(S_ISCHR(st.st_mode));
}

static int setup(void **state)
{
	return make_frames(state) != 0 || make_dir(state) != 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_write),
	        cmocka_unit_test(test_write_stdout),
	        cmocka_unit_test(test_write_refused),
	        cmocka_unit_test(test_disk_full),
	        cmocka_unit_test(test_full_device),
	};
	return cmocka_run_group_tests(tests, setup, remove_dir);
}
