#include "base/utf8.h"

#include <stdbool.h>
#include <string.h>

#define CUT "…"

int nssm_utf8_char(uint32_t *cp, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	if (s[0] < 0x80) {
		*cp = s[0];
		return 1;
	}
	int n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	*cp = s[0] & (0xffu >> (n + 1));
	for (int i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		*cp = *cp << 6 | (s[i] & 0x3f);
	}
	bool overlong = (n == 3 && *cp < 0x800) || (n == 4 && *cp < 0x10000);
	return overlong || *cp > 0x10ffff || (*cp >= 0xd800 && *cp < 0xe000) ? 0 : n;
}

int nssm_utf8_columns(uint32_t cp)
{
	static const uint32_t wide[][2] = {{0x1100, 0x115f}, {0x2e80, 0xa4cf}, {0xac00, 0xd7a3},
	        {0xf900, 0xfaff}, {0xfe30, 0xfe6f}, {0xff00, 0xff60}, {0xffe0, 0xffe6}, {0x1f300, 0x1faff},
	        {0x20000, 0x3fffd}};
	for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
		if (cp >= wide[i][0] && cp <= wide[i][1])
			return 2;
	return cp >= 0x300 && cp < 0x370 ? 0 : 1;
}

/* Neither controls nor what changes the direction of the text around it or has no width. */
static bool is_plain(uint32_t cp)
{
	bool control = cp < 0x20 || (cp >= 0x7f && cp < 0xa0);
	bool format = (cp >= 0x200b && cp <= 0x200f) || (cp >= 0x2028 && cp <= 0x202e) ||
	              (cp >= 0x2060 && cp <= 0x206f) || cp == 0x61c || cp == 0xfeff;
	return !control && !format;
}

int nssm_utf8_show(char *dst, size_t cap, const char *text, int max_cols)
{
	const char *s = text;
	size_t n = 0, n_cut = 0; /* n_cut: where the … goes if not all fits */
	int cols = 0, cut_cols = 0;
	while (*s != '\0') {
		uint32_t cp = 0;
		int k = nssm_utf8_char(&cp, s);
		bool plain = k > 0 && is_plain(cp);
		int w = plain ? nssm_utf8_columns(cp) : 1;
		size_t bytes = plain ? (size_t)k : 1;
		if (cols + w > max_cols || n + bytes >= cap) {
			n = n_cut;
			cols = cut_cols;
			if (cols < max_cols && n + sizeof CUT <= cap) {
				memcpy(dst + n, CUT, sizeof CUT - 1);
				n += sizeof CUT - 1;
				cols++;
			}
			break;
		}
		if (plain)
			memcpy(dst + n, s, bytes);
		else
			dst[n] = k > 0 ? ' ' : '?';
		n += bytes;
		s += k > 0 ? k : 1;
		cols += w;
		if (cols < max_cols && n + sizeof CUT <= cap) {
			n_cut = n;
			cut_cols = cols;
		}
	}
	dst[n] = '\0';
	return cols;
}
