/* netssm — the program: finds the subcommand, reads its flags and profiles, runs it. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/cmd.h"
#include "app/help.h"
#include "conf/nearest.h"
#include "version.h"

/* In the order in which a newcomer needs them. Ends with NULL. */
static const struct nssm_cmd *const commands[] = {
	&nssm_cmd_prepare,
	&nssm_cmd_train,
	&nssm_cmd_generate,
	&nssm_cmd_replay,
	&nssm_cmd_run,
	&nssm_cmd_info,
	&nssm_cmd_decode,
	&nssm_cmd_eval,
	&nssm_cmd_nprint,
	&nssm_cmd_bench,
	NULL,
};

enum { EXIT_OK, EXIT_ERROR, EXIT_USAGE, EXIT_STOPPED = 130 /* by SIGINT, as shells say it */ };

static int complain(int code, const char *msg)
{
	fflush(stdout);
	fprintf(stderr, "netssm: error: %s\n", msg);
	return code;
}

static const struct nssm_cmd *find(const char *name)
{
	for (int i = 0; commands[i] != NULL; i++)
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
	return NULL;
}

static int unknown_command(const char *name)
{
	struct nssm_nearest near;
	nssm_nearest_init(&near, name);
	for (int i = 0; commands[i] != NULL; i++)
		nssm_nearest_offer(&near, commands[i]->name);
	const char *best = nssm_nearest_get(&near);
	char msg[256];
	snprintf(msg, sizeof msg, "'%.64s': unknown command; %s%s%s", name, best != NULL ? "did you mean " : "",
	        best != NULL ? best : "see netssm --help", best != NULL ? "?" : "");
	return complain(EXIT_USAGE, msg);
}

static bool asks_for_help(int argc, char **argv)
{
	for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0)
			return true;
	return false;
}

static int read_words(struct nssm_conf **conf, const struct nssm_cmd *cmd, int argc, char **argv,
        const char **pos, int *n_pos, struct nssm_err *err)
{
	int rc = nssm_conf_open(conf, err);
	if (rc == 0)
		rc = nssm_conf_args(*conf, cmd->bit, argc, argv, cmd->max_pos, pos, n_pos, err);
	if (rc != 0 || !cmd->pos_profiles)
		return rc;
	/* Once more from the beginning, now that the profiles are known: flags win over them. */
	nssm_conf_close(conf);
	rc = nssm_conf_open(conf, err);
	for (int i = 0; i < *n_pos && rc == 0; i++)
		rc = nssm_conf_load(*conf, pos[i], err);
	return rc != 0 ? rc : nssm_conf_args(*conf, cmd->bit, argc, argv, cmd->max_pos, pos, n_pos, err);
}

/* argv[0] is the first word after the command. */
static int run(const struct nssm_cmd *cmd, int argc, char **argv)
{
	int n_pos = 0;
	struct nssm_conf *conf = NULL;
	struct nssm_err err = {0};
	if (asks_for_help(argc, argv)) {
		nssm_help_cmd(stdout, cmd, 0);
		return EXIT_OK;
	}
	const char **pos = calloc((size_t)argc + 1, sizeof *pos);
	if (pos == NULL)
		return complain(EXIT_ERROR, "no memory for the command line");
	int rc = read_words(&conf, cmd, argc, argv, pos, &n_pos, &err);
	if (rc == NSSM_EARG || rc == NSSM_ERANGE) {
		nssm_conf_close(&conf);
		free(pos);
		complain(EXIT_USAGE, err.msg);
		fprintf(stderr, "usage: netssm %s\n", cmd->usage);
		return EXIT_USAGE;
	}
	if (rc == 0)
		rc = cmd->run(conf, pos, n_pos, &err);
	nssm_conf_close(&conf);
	free(pos);
	if (rc == 0)
		return EXIT_OK;
	const char *msg = err.msg[0] != '\0' ? err.msg : "failed without saying why";
	return complain(rc == NSSM_EINTR ? EXIT_STOPPED : EXIT_ERROR, msg);
}

static int help(int argc, char **argv)
{
	if (argc == 0) {
		nssm_help_all(stdout, commands);
		return EXIT_OK;
	}
	if (strcmp(argv[0], "--man") == 0) { /* for the build: netssm.1 */
		nssm_help_man(stdout, commands);
		return EXIT_OK;
	}
	const struct nssm_cmd *cmd = find(argv[0]);
	if (cmd == NULL)
		return unknown_command(argv[0]);
	nssm_help_cmd(stdout, cmd, 0);
	return EXIT_OK;
}

static int dispatch(int argc, char **argv)
{
	if (argc < 2) {
		nssm_help_all(stderr, commands);
		return EXIT_USAGE;
	}
	const char *word = argv[1];
	if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0)
		return help(argc - 2, argv + 2);
	if (strcmp(word, "--version") == 0) {
		puts("netssm " NSSM_VERSION);
		return EXIT_OK;
	}
	const struct nssm_cmd *cmd = find(word);
	return cmd != NULL ? run(cmd, argc - 2, argv + 2) : unknown_command(word);
}

/* A file that is opened while descriptor 0, 1 or 2 is closed would get that number, and messages would land
 * in it. Each is given to /dev/null the wrong way round, so that its use still fails. */
static void guard_standard_files(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) == -1 && errno == EBADF)
			(void)!open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
}

/* What was printed has arrived, or the exit status says that it has not. */
static int close_stdout(int code)
{
	bool failed = ferror(stdout) != 0;
	errno = 0;
	if (fclose(stdout) != 0)
		failed = true;
	if (!failed)
		return code;
	char msg[128];
	snprintf(msg, sizeof msg, "cannot write to standard output%s%s", errno != 0 ? ": " : "",
	        errno != 0 ? strerror(errno) : "");
	fprintf(stderr, "netssm: error: %s\n", msg);
	return code == EXIT_OK ? EXIT_ERROR : code;
}

int main(int argc, char **argv)
{
	guard_standard_files();
	/* A reader that goes away is an error of that write, to be cleaned up after, not the end of the
	 * process. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* as a disk that is full */
	return close_stdout(dispatch(argc, argv));
}
