/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this program was built from and with.
 */
#pragma once

#include <stdio.h>

/* The slirp4netns release whose command line and API this program offers. */
#define SLIRP4NETNS_VERSION "1.3.2"

/* COMPATIBLE: one `key: value` line each, under the keys that scripts look for in --version. */
void build_info_print(FILE *out);

/* The same for --features: `name: yes (what)` or `name: no (why)`. */
void build_info_print_features(FILE *out);
