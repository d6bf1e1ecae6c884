/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target over all files of a folder, in the place of libFuzzer's main(): what was
 * found once is tested for ever, with any compiler.
 */
#include <dirent.h>
#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "tests/fuzz/fuzz.h"

/* The bytes in a block of just their size, so that a sanitizer sees reads behind them. */
static uint8_t *read_input(const char *path, size_t *ret_size)
{
	FILE *file = fopen(path, "rbe");
	struct stat st;
	uint8_t *bytes;

	if (!file || fstat(fileno(file), &st) < 0)
		err(1, "%s", path);
	*ret_size = (size_t)st.st_size;
	bytes = malloc(*ret_size ? *ret_size : 1);
	if (!bytes || fread(bytes, 1, *ret_size, file) != *ret_size)
		err(1, "%s", path);
	fclose(file);
	return bytes;
}

static void replay(const char *folder, const char *name)
{
	char path[4096];
	uint8_t *bytes;
	size_t size;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	/* The last one named is the one that failed. */
	printf("%s\n", name);
	fflush(stdout);
	bytes = read_input(path, &size);
	LLVMFuzzerTestOneInput(bytes, size);
	free(bytes);
}

static int is_input(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

int main(int argc, char **argv)
{
	struct dirent **entries;
	int n;

	if (argc != 2)
		errx(2, "usage: %s FOLDER", argv[0]);
	n = scandir(argv[1], &entries, is_input, alphasort);
	if (n < 0)
		err(1, "%s", argv[1]);
	if (n == 0)
		errx(1, "%s: no inputs", argv[1]);
	for (int i = 0; i < n; i++) {
		replay(argv[1], entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	return 0;
}
