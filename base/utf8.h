/* utf8 — text from file names, labels and the like made safe to show, in terminals, JSON and metrics alike. */
#ifndef NSSM_BASE_UTF8_H
#define NSSM_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the character at s (NUL-terminated), 0 if it is none: overlong forms, surrogates, beyond U+10FFFF. */
int nssm_utf8_char(uint32_t *cp, const char *s);
/* Columns that a terminal gives a character. wcwidth would need a locale; the wide blocks of Unicode's EastAsianWidth are
 * enough, and calling a narrow one wide only cuts a line a little early. */
int nssm_utf8_columns(uint32_t cp);
/* Copies text that is safe to show: whole characters, at most max_cols columns and cap bytes with the NUL (… where it was cut),
 * neither control characters nor those that turn the text's direction (blank), nor broken UTF-8 (?). Returns the columns. cap >= 1. */
int nssm_utf8_show(char *dst, size_t cap, const char *text, int max_cols);

#endif
