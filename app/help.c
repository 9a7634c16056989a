#include "app/help.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "version.h"

#define ABOUT "learns network sessions from captures and generates new ones"

static const char *const steps[] = {
        "netssm prepare --captures captures/ --labels labels.csv --out corpus.nssm",
        "netssm train --corpus corpus.nssm --minutes 30 --out model/",
        "netssm generate --model model/ --label web --sessions 10 --pcap-out new.pcap",
        "netssm replay new.pcap --port af_packet:eth1 --rate 2x",
};
#define N_STEPS (sizeof steps / sizeof *steps)

void nssm_help_all(FILE *out, const struct nssm_cmd *const *cmds)
{
	fputs("netssm " NSSM_VERSION " - " ABOUT "\n\nusage: netssm COMMAND [flags]\n\ncommands:\n", out);
	for (; *cmds != NULL; cmds++)
		fprintf(out, "  %-10s %s\n", (*cmds)->name, (*cmds)->summary);
	fputs("\nfrom captures to new traffic:\n", out);
	for (size_t i = 0; i < N_STEPS; i++)
		fprintf(out, "  %s\n", steps[i]);
	fputs("\nnetssm COMMAND --help tells all about a command, netssm --version the version.\n"
	      "Every flag may also stand in a YAML profile: --config FILE.\n",
	        out);
}

void nssm_help_cmd(FILE *out, const struct nssm_cmd *cmd, int width)
{
	struct winsize w;
	if (width == 0) {
		width = isatty(fileno(out)) && ioctl(fileno(out), TIOCGWINSZ, &w) == 0 && w.ws_col > 0
		                ? w.ws_col
		                : 80;
		width = width > 110 ? 110 : width;
	}
	fprintf(out, "netssm %s - %s\n\nusage: netssm %s\n", cmd->name, cmd->summary, cmd->usage);
	if (cmd->details != NULL && cmd->details[0] != '\0')
		fprintf(out, "\n%s%s", cmd->details,
		        cmd->details[strlen(cmd->details) - 1] == '\n' ? "" : "\n");
	nssm_conf_help(out, cmd->bit, width);
}

/* --- the manual page ------------------------------------------------------------------------------------------ */

/* roff text: dots and quotes at the start of a line, backslashes and hyphens escaped, what is not ASCII by
 * its number. */
static void roff(FILE *out, const char *text)
{
	bool line_start = true;
	for (const unsigned char *s = (const unsigned char *)text; *s != '\0'; s++) {
		if (line_start && (*s == '.' || *s == '\'' || *s == ' '))
			fputs("\\&", out);
		line_start = *s == '\n';
		if (*s == '\\')
			fputs("\\e", out);
		else if (*s == '-')
			fputs("\\-", out);
		else if (*s == '"')
			fputs("\\(dq", out);
		else if (*s == '\'')
			fputs("\\(aq", out);
		else if (*s == '^')
			fputs("\\(ha", out);
		else if (*s == '~')
			fputs("\\(ti", out);
		else if (*s < 0x80)
			fputc(*s, out);
		else if (*s >= 0xc0) {
			int n = *s >= 0xf0 ? 3 : *s >= 0xe0 ? 2 : 1;
			uint32_t cp = *s & (0x3fu >> n);
			for (; n > 0 && (s[1] & 0xc0) == 0x80; n--)
				cp = cp << 6 | (*++s & 0x3f);
			fprintf(out, "\\[u%04X]", (unsigned)cp);
		}
	}
}

static void section(FILE *out, const char *name)
{
	fprintf(out, ".SH %s\n", name);
}

static void man_key(FILE *out, enum nssm_key_id id)
{
	char flag[NSSM_FLAG_BYTES], allowed[128];
	const struct nssm_key *k = nssm_conf_key(id);
	const char *var = nssm_conf_metavar(id);
	fputs(".TP\n.B ", out);
	roff(out, nssm_conf_flag(flag, id));
	if (k->type == NSSM_T_BOOL) {
		fputs(", \\-\\-no\\-", out);
		roff(out, flag + 2);
	} else {
		fputs(" \\fI", out);
		roff(out, var);
		fputs(k->type == NSSM_T_LIST ? "\\fR ..." : "\\fR", out);
	}
	fputc('\n', out);
	roff(out, k->help);
	nssm_conf_allowed(allowed, id);
	if (allowed[0] != '\0') {
		fputs(" [", out);
		roff(out, allowed);
		fputs("]", out);
	}
	fputs(" (in a profile: \\fI", out);
	roff(out, k->name);
	fputs("\\fR)\n", out);
}

static void man_cmd(FILE *out, const struct nssm_cmd *cmd)
{
	fprintf(out, ".SS netssm %s\n", cmd->name);
	fputs(".nf\n.B ", out);
	roff(out, cmd->usage);
	fputs("\n.fi\n.PP\n", out);
	roff(out, cmd->summary);
	fputs("\n", out);
	if (cmd->details != NULL && cmd->details[0] != '\0') {
		/* Kept as it stands, from the first column on: it holds examples, and is up to 80 columns wide. */
		fputs(".PP\n.in 0\n.nf\n", out);
		roff(out, cmd->details);
		if (cmd->details[strlen(cmd->details) - 1] != '\n')
			fputc('\n', out);
		fputs(".fi\n.in\n", out);
	}
	for (int i = 0; i < NSSM_N_KEYS; i++)
		if (nssm_conf_key(i)->cmds & cmd->bit)
			man_key(out, i);
}

/* What holds for all that sends: generate, replay and run. */
/* clang-format off */
static const struct {
	const char *name, *text[2]; /* paragraphs */
} part[] = {
	{"CLONES",
		{"A clone is a session sent again as a new one: addresses, ports, MACs, sequence numbers, SACK edges, "
		"time stamps, IP IDs, DNS ids, TLS randoms and session ids are its own, both directions agree, and "
		"checksums are right if they were. No two that are alive share a client's address and port; "
		"--endpoints-max, --sockets-max and --servers-max say how many a session may have, which for captures "
		"is found out by reading them first. A gateway's address is given to nobody.",
		"Clones do not react. What ends connections itself breaks them: a proxy, SYN cookies, a firewall that "
		"randomises sequence numbers. Nothing is sent again because it was lost. QUIC Initials, and addresses "
		"inside FTP, SIP and RTSP, are left as they are; such flows are counted."}},
	{"COUNTS",
		{"made = sent + dropped + left, to the packet. Dropped by reason: queue_full (a port took nothing), "
		"link_down, too_long (for the port's MTU), no_reader (a stream that nobody reads, or not fast "
		"enough), error (a sink failed). Left is what was read or made and never became due. Late is the time "
		"from when a packet was due to when it was handed to the port; at --rate top nothing is due."}},
	{"TRUTH",
		{"--truth writes a row a flow: community_id (version 1, seed 0), proto, src_ip, src_port, dst_ip, "
		"dst_port (src began the flow; as sent), label, session, clone (0: the session itself), first_due, "
		"last_due, first_sent, last_sent (seconds since 1970), packets_fwd, packets_rev, bytes_fwd, bytes_rev "
		"(what left), dropped, state (complete, or cut by the end of the run)."}},
	{"WATCHING AND STEERING",
		{"A terminal shows the run live, anything else gets a line every 10 s (--progress). --metrics serves "
		"OpenMetrics at /metrics of its port on 127.0.0.1; with a --port DPDK's telemetry has /netssm/stats. "
		"--control makes a Unix socket, for its owner only, that takes a line and answers with one of JSON: "
		"rate WHAT, pause, resume, stats, stop (sends what is due), stop now, help."}},
	{"SAFETY",
		{"Nothing is sent live but by a --port that is named. An interface that carries the default route, or "
		"the login session that netssm runs in, is refused unless --force, also behind a bridge, bond or "
		"VLAN. --max-pps and --max-bps hold whatever the rate is. Files need no rights; ports of kernel "
		"interfaces need root or CAP_NET_RAW, af_xdp CAP_NET_ADMIN and CAP_BPF as well."}},
};
/* clang-format on */

static void sending(FILE *out)
{
	for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
		section(out, part[i].name);
		for (int k = 0; k < 2 && part[i].text[k] != NULL; k++) {
			fputs(k > 0 ? ".PP\n" : "", out);
			roff(out, part[i].text[k]);
			fputc('\n', out);
		}
	}
}

void nssm_help_man(FILE *out, const struct nssm_cmd *const *cmds)
{
	fputs(".TH NETSSM 1 \"\" \"netssm " NSSM_VERSION "\" \"User Commands\"\n", out);
	section(out, "NAME");
	fputs("netssm \\- " ABOUT "\n", out);
	section(out, "SYNOPSIS");
	fputs(".B netssm\n.I command\n.RI [ flags ]\n.br\n.B netssm help\n.RI [ command ]\n.br\n.B netssm "
	      "\\-\\-version\n",
	        out);
	section(out, "DESCRIPTION");
	fputs("Captures become a corpus of labelled sessions, a Mamba\\-2 model is trained on it, and the "
	      "model generates new\n"
	      "sessions of many flows, which go into captures or onto a wire; captures can be replayed the "
	      "same way:\n.PP\n.in 2\n.nf\n",
	        out);
	for (size_t i = 0; i < N_STEPS; i++) {
		roff(out, steps[i]);
		fputc('\n', out);
	}
	fputs(".fi\n.in\n", out);
	section(out, "COMMANDS");
	for (; *cmds != NULL; cmds++)
		man_cmd(out, *cmds);
	section(out, "COMMON FLAGS");
	fputs(".TP\n.B \\-\\-config \\fIFILE\\fR ...\nYAML profile, read before the flags; a later one wins "
	      "over an earlier one\n"
	      ".TP\n.B \\-h, \\-\\-help\nhelp for the command\n.TP\n.B \\-\\-\nends the flags\n",
	        out);
	sending(out);
	section(out, "PROFILES");
	fputs("A profile is a YAML file of sections and keys; a flag named\n.B \\%\\-\\-seq\\-tokens\nis the "
	      "key\n.B seq_tokens\n"
	      "in the section shown beside it.\nOne profile may hold keys of several commands; each takes "
	      "its own.\n"
	      "Later wins: default, profiles in the order given, flags.\n.PP\n.nf\nmodel:\n\\&  d_model: "
	      "256\ntrain:\n"
	      "\\&  lr: 1e\\-3\n\\&  save_every: 2m\n.fi\n.PP\n"
	      "Numbers without fraction take the suffixes k, M and G (powers of 1000); times take ns, us, "
	      "ms, s, m, h and d.\n",
	        out);
	section(out, "EXIT STATUS");
	fputs(".TP\n.B 0\nwell\n.TP\n.B 1\nan error, named on standard error\n.TP\n.B 2\na command line that "
	      "makes no sense\n.TP\n.B 130\nstopped by SIGINT or SIGTERM\n",
	        out);
}
