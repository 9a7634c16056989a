#include "replay/port.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_log.h>

#include "replay/eal_dpdk.h"

#define MEM_MB   256
#define MEM_MAX  (1u << 20)
#define LOG_LAST 2048
#define ARGS_MAX 64
#define PREFIX   "netssm-"

/* DPDK's start is a thing of the process, and so is this. */
static struct {
	bool tried;
	atomic_bool running;
	pid_t pid;
	FILE *log;
	FILE *out, *err; /* stdout and stderr while hushed */
	pthread_mutex_t lock;
	char last[LOG_LAST]; /* a ring of what was logged; n bytes in all */
	size_t n;
	pthread_key_t thread; /* set in threads that are lcores */
} eal = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* --- the log --- */

static ssize_t log_write(void *cookie, const char *text, size_t len)
{
	(void)cookie;
	pthread_mutex_lock(&eal.lock);
	for (size_t i = 0; i < len; i++)
		eal.last[eal.n++ % LOG_LAST] = text[i];
	pthread_mutex_unlock(&eal.lock);
	return (ssize_t)len;
}

void nssm_eal_hush(void)
{
	fflush(stdout);
	pthread_mutex_lock(&eal.lock);
	eal.n = 0;
	pthread_mutex_unlock(&eal.lock);
	eal.out = stdout;
	eal.err = stderr;
	stdout = stderr = eal.log;
}

void nssm_eal_hush_end(void)
{
	fflush(eal.log);
	stdout = eal.out;
	stderr = eal.err;
}

/* Keeps what is readable of the last 300 bytes, from the beginning of a line on. */
const char *nssm_eal_said(char *out, size_t cap)
{
	enum { KEEP = 300 };
	char text[KEEP + 1];
	pthread_mutex_lock(&eal.lock);
	size_t n = eal.n < KEEP ? eal.n : KEEP;
	for (size_t i = 0; i < n; i++)
		text[i] = eal.last[(eal.n - n + i) % LOG_LAST];
	bool cut = eal.n > n;
	pthread_mutex_unlock(&eal.lock);
	while (n > 0 && text[n - 1] == '\n')
		n--;
	text[n] = '\0';
	const char *from = cut ? strchr(text, '\n') : NULL;
	from = from != NULL ? from + 1 : text;
	snprintf(out, cap, "%s%s", *from != '\0' ? ": " : "", from);
	for (char *p = out; *p != '\0'; p++)
		if ((unsigned char)*p < ' ')
			*p = *p == '\n' ? '|' : ' ';
	return out;
}

/* --- arguments --- */

struct args {
	char text[4096];
	char *argv[ARGS_MAX + 1];
	int argc;
	size_t used;
};

__attribute__((format(printf, 2, 3))) static bool add(struct args *a, const char *fmt, ...)
{
	va_list ap;
	if (a->argc == ARGS_MAX)
		return false;
	va_start(ap, fmt);
	int n = vsnprintf(a->text + a->used, sizeof a->text - a->used, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof a->text - a->used)
		return false;
	a->argv[a->argc++] = a->text + a->used;
	a->argv[a->argc] = NULL;
	a->used += (size_t)n + 1;
	return true;
}

/* Whether the kernel would give mem_mb of hugepages: reserved at mmap, touched by nobody. */
static bool has_hugepages(uint32_t mem_mb)
{
	size_t bytes = (size_t)mem_mb << 20;
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (p == MAP_FAILED)
		return false;
	munmap(p, bytes);
	return true;
}

static int first_cpu(const cpu_set_t *set)
{
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, set))
			return i;
	return 0;
}

static bool add_all(struct args *a, const struct nssm_eal_cfg *cfg, int cpu)
{
	uint32_t mem_mb = cfg->mem_mb != 0 ? cfg->mem_mb : MEM_MB;
	const char *extra = cfg->extra != NULL ? cfg->extra : "";
	bool pci = false, ok = true;
	/* 5: RTE_LOG_WARNING. */
	ok = add(a, "netssm") && add(a, "--lcores=0@%d", cpu) &&
	     add(a, "--file-prefix=" PREFIX "%d", getpid()) && add(a, "--log-level=5") && add(a, "-m") &&
	     add(a, "%u", mem_mb);
	if (strstr(extra, "--in-memory") == NULL && strstr(extra, "--no-huge") == NULL)
		ok = ok && add(a, "%s", has_hugepages(mem_mb) ? "--in-memory" : "--no-huge");
	/* Nobody attaches to this process: no files that a kill would leave. */
	ok = ok && add(a, "--no-shconf") && (cfg->telemetry || add(a, "--no-telemetry"));
	for (int i = 0; i < cfg->n_dev; i++)
		if (cfg->dev[i].kind == NSSM_DEV_PCI) {
			pci = true;
			ok = ok && add(a, "-a") && add(a, "%s", cfg->dev[i].vdev);
		}
	if (!pci)
		ok = ok && add(a, "--no-pci");
	for (const char *s = extra; *s != '\0';) {
		size_t blank = strspn(s, " \t\n"), word = strcspn(s + blank, " \t\n");
		if (word > 0)
			ok = ok && add(a, "%.*s", (int)word, s + blank);
		s += blank + word;
	}
	return ok;
}

/* --- the runtime folder --- */

/* DPDK puts a user's files below XDG_RUNTIME_DIR, else below /tmp/dpdk, which belongs to whoever came first. Without a usable
 * XDG_RUNTIME_DIR it gets a folder of the user's own. True if RUNTIME_DIRECTORY was set here. */
static bool set_runtime_dir(void)
{
	char dir[64];
	struct stat st;
	const char *xdg = getenv("XDG_RUNTIME_DIR");
	if (getuid() == 0 || getenv("RUNTIME_DIRECTORY") != NULL || (xdg != NULL && access(xdg, W_OK) == 0))
		return false;
	snprintf(dir, sizeof dir, "/tmp/netssm-%u", (unsigned)getuid());
	mkdir(dir, 0700);
	if (lstat(dir, &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != getuid() || (st.st_mode & 077) != 0)
		return false;
	return setenv("RUNTIME_DIRECTORY", dir, 1) == 0;
}

#define TELEMETRY "dpdk_telemetry.v2"

/* Unless there is a telemetry socket it is empty and goes right after the start, so that a kill leaves nothing. */
static void remove_runtime_dir(bool telemetry)
{
	char path[512];
	snprintf(path, sizeof path, "%s/" TELEMETRY, rte_eal_get_runtime_dir());
	/* DPDK itself does so when the process exits. */
	if (telemetry)
		unlink(path);
	rmdir(rte_eal_get_runtime_dir());
}

/* Of a process that ends without nssm_eal_stop; not of a child of it. */
static void at_exit(void)
{
	if (eal.running && getpid() == eal.pid)
		remove_runtime_dir(true);
}

/* A telemetry socket that nobody listens on any more. */
static bool is_dead(const char *path)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	snprintf(to.sun_path, sizeof to.sun_path, "%.*s", (int)sizeof to.sun_path - 1, path);
	bool dead =
	        fd >= 0 && connect(fd, (const struct sockaddr *)&to, sizeof to) != 0 && errno == ECONNREFUSED;
	if (fd >= 0)
		close(fd);
	return dead;
}

/* Folders of runs with telemetry that were killed. */
static void remove_dead_dirs(void)
{
	char above[256], path[sizeof above + NAME_MAX + sizeof TELEMETRY + 8];
	snprintf(above, sizeof above, "%s", rte_eal_get_runtime_dir());
	char *slash = strrchr(above, '/');
	if (slash == NULL)
		return;
	*slash = '\0';
	DIR *dir = opendir(above);
	if (dir == NULL)
		return;
	for (const struct dirent *e; (e = readdir(dir)) != NULL;) {
		snprintf(path, sizeof path, "%s/%s/" TELEMETRY, above, e->d_name);
		if (strncmp(e->d_name, PREFIX, sizeof PREFIX - 1) != 0 || !is_dead(path))
			continue;
		unlink(path);
		*strrchr(path, '/') = '\0';
		rmdir(path);
	}
	closedir(dir);
}

/* --- start and stop --- */

static void thread_ends(void *registered)
{
	(void)registered;
	if (eal.running)
		rte_thread_unregister();
}

static int open_log(struct nssm_err *err)
{
	if (eal.log != NULL)
		return 0;
	eal.log = fopencookie(NULL, "w", (cookie_io_functions_t){.write = log_write});
	if (eal.log == NULL || pthread_key_create(&eal.thread, thread_ends) != 0)
		return nssm_err_set(err, NSSM_ENOMEM, "DPDK: no memory for its log");
	setvbuf(eal.log, NULL, _IOLBF, 0);
	/* Before EAL's start, or it would take the terminal and syslog. */
	rte_openlog_stream(eal.log);
	return 0;
}

int nssm_eal_start(const struct nssm_eal_cfg *cfg, struct nssm_err *err)
{
	struct args a = {.used = 0};
	char *argv[ARGS_MAX + 1], said[400];
	cpu_set_t cpus;
	if (eal.running)
		return 0;
	if (eal.tried)
		return nssm_err_set(err, NSSM_EUNSUP, "DPDK: it can be started once in a process only");
	if (cfg->mem_mb > MEM_MAX)
		return nssm_err_set(
		        err, NSSM_ERANGE, "DPDK: %u MB of memory, more than %u", cfg->mem_mb, MEM_MAX);
	/* EAL's tables alone grow beyond what there is, and it does not look. */
	uint64_t have_mb = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) >> 20;
	if (cfg->mem_mb > have_mb)
		return nssm_err_set(err, NSSM_ERANGE, "DPDK: %u MB of memory (live.mem), this machine has %llu",
		        cfg->mem_mb, (unsigned long long)have_mb);
	int rc = open_log(err);
	if (rc != 0)
		return rc;
	if (sched_getaffinity(0, sizeof cpus, &cpus) != 0)
		return nssm_err_set(err, NSSM_EIO, "DPDK: which CPUs may be used: %s", strerror(errno));
	if (!add_all(&a, cfg, first_cpu(&cpus)))
		return nssm_err_set(err, NSSM_EARG,
		        "DPDK: more than %d arguments, or more than %zu bytes of them", ARGS_MAX,
		        sizeof a.text);
	eal.tried = true;
	bool runtime_dir = set_runtime_dir();
	/* EAL moves the pointers about. */
	memcpy(argv, a.argv, sizeof argv);
	nssm_eal_hush();
	int used = rte_eal_init(a.argc, argv);
	nssm_eal_hush_end();
	if (runtime_dir)
		unsetenv("RUNTIME_DIRECTORY");
	sched_setaffinity(0, sizeof cpus, &cpus);
	remove_runtime_dir(false);
	if (used < 0)
		return nssm_err_set(err, NSSM_EIO, "DPDK: its start failed (%s)%s", rte_strerror(rte_errno),
		        nssm_eal_said(said, sizeof said));
	eal.pid = getpid();
	if (cfg->telemetry) {
		remove_dead_dirs();
		atexit(at_exit);
	}
	eal.running = true;
	return 0;
}

void nssm_eal_stop(void)
{
	if (!eal.running)
		return;
	eal.running = false;
	nssm_eal_hush();
	rte_eal_cleanup();
	nssm_eal_hush_end();
	remove_runtime_dir(true);
}

bool nssm_eal_running(void)
{
	return eal.running;
}

int nssm_eal_thread(struct nssm_err *err)
{
	assert(eal.running);
	if (rte_lcore_id() != LCORE_ID_ANY)
		return 0;
	if (rte_thread_register() != 0)
		return nssm_err_set(err, NSSM_EUNSUP,
		        "DPDK: this thread cannot be an lcore (%s); there are %d at most",
		        rte_strerror(rte_errno), RTE_MAX_LCORE);
	/* Any value but NULL has thread_ends called. */
	pthread_setspecific(eal.thread, &eal);
	return 0;
}
