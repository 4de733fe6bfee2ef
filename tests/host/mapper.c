/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for newuidmap(1) and newgidmap(1), whichever it is called, where a host has neither: setuid root,
 * it writes the mappings that it is given, whoever asks.  For tests alone. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    char path[64], text[4096] = "";
    const char *file = strstr(argv[0], "newgidmap") ? "gid_map" : "uid_map";
    size_t length;
    int fd;

    for (int i = 2; i + 2 < argc; i += 3) {
        length = strlen(text);
        snprintf(text + length, sizeof text - length, "%s %s %s\n", argv[i], argv[i + 1], argv[i + 2]);
    }
    snprintf(path, sizeof path, "/proc/%s/%s", argc > 1 ? argv[1] : "", file);
    fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) {
        perror(path);
        return 1;
    }
    return 0;
}
