/* SPDX-License-Identifier: Apache-2.0 */
/* A plugin that decides for a seccomp filter, as crun has them: CALL and ANSWER say about which system call and
 * how, TOLD names the file that gets what it was told of the container, and a line when it is stopped. */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

struct conf {
    const char *root, *name, *bundle, *config;
};

#ifndef VERSION
#define VERSION 1
#endif
#ifndef START
#define START 0
#endif
/* What handle_request says: 0 not handled, 1 answered, 2 later, 3 go on in the kernel. */
#ifndef HANDLED
#define HANDLED 1
#endif
/* Whether it answers by itself. */
#ifndef SENDS
#define SENDS (HANDLED == 2)
#endif
#ifndef FLAGS
#define FLAGS 0
#endif
#ifndef FAILURE
#define FAILURE 0
#endif

int run_oci_seccomp_notify_version(void) { return VERSION; }

int run_oci_seccomp_notify_start(void **opaque, struct conf *conf, size_t size) {
    *opaque = (void *)conf->name;
    FILE *file = fopen(TOLD, "a");
    if (size != sizeof(*conf) || !file)
        return -EINVAL;
    fprintf(file, "start %s %s %s %s\n", conf->root, conf->name, conf->bundle, conf->config);
    fclose(file);
    printf("to standard output\n");
    fflush(stdout);
    return START;
}

int run_oci_seccomp_notify_handle_request(void *opaque, struct seccomp_notif_sizes *sizes, struct seccomp_notif *request,
                                          struct seccomp_notif_resp *response, int listener, int *handled) {
    *handled = 0;
    if (!opaque || sizes->seccomp_notif < sizeof(*request))
        return -EINVAL;
    if (request->data.nr != CALL)
        return 0;
    response->error = ANSWER;
    *handled = HANDLED;
    response->flags = FLAGS;
    if (SENDS) {
        response->id = request->id;
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, response);
    }
    return FAILURE;
}

int run_oci_seccomp_notify_stop(void *opaque) {
    FILE *file = fopen(TOLD, "a");
    if (file) {
        fprintf(file, "stop %s\n", opaque ? "known" : "unknown");
        fclose(file);
    }
    return 0;
}
