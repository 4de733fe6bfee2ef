/* SPDX-License-Identifier: Apache-2.0 */
/* Exchanges pairs of paths for each other, one pair after the other, as fast as it can until it is killed:
 * what another container does that shares a directory with one that is just being made.  Called "once", it
 * does so once. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    int done = 0; /* one of them may be away just now */

    do
        for (int pair = 1; pair + 1 < argc; pair += 2)
            done = renameat2(AT_FDCWD, argv[pair], AT_FDCWD, argv[pair + 1], RENAME_EXCHANGE);
    while (strcmp(argv[0], "once") != 0);
    return done < 0;
}
