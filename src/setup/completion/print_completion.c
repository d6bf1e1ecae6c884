/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Run by the build: print-completion SHELL writes the completion script to standard output.
 */
#include "setup/options.h"

int main(int argc, char **argv)
{
	if (argc != 2 || options_print_completion(stdout, argv[1]) < 0) {
		fputs("usage: print-completion bash|zsh|fish\n", stderr);
		return 1;
	}
	return fclose(stdout) != 0;
}
