/* SPDX-License-Identifier: Apache-2.0 */
/* Says each of its arguments to the socket in NOTIFY_SOCKET, \n in it being a new line, and waits for a signal
 * (sd_notify(3)); with "end" as the last one it ends instead. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

    strncpy(to.sun_path, path ? path : "/none", sizeof to.sun_path - 1);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "end") == 0)
            return 0;
        for (char *at; (at = strstr(argv[i], "\\n"));) {
            *at = '\n';
            memmove(at + 1, at + 2, strlen(at + 2) + 1);
        }
        if (sendto(fd, argv[i], strlen(argv[i]), 0, (struct sockaddr *)&to, sizeof to) < 0)
            return 3;
    }
    pause();
    return 0;
}
